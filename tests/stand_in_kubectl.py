"""A kubectl for tests of k8s/operate: takes notes, keeps one Job, and runs in a folder what has to run in its pod.

The CronJob that Jobs are made of is $CLUSTER/cronjob.json. `patch --local`, which needs no cluster, goes to the real
kubectl. A command of hoso24 runs with the environment of the Job that was made, with the Secrets of $CLUSTER/secrets;
where there are none, it does not run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

CLUSTER = Path(os.environ["CLUSTER"])
JOB = CLUSTER / "job.json"
POD = "operate-pod"


def main(words: list[str]) -> int:
    with (CLUSTER / "notes").open("a", encoding="utf-8") as notes:
        print(json.dumps(words), file=notes)
    if words[0] == "patch":
        return subprocess.run([os.environ["KUBECTL"], *words], check=False).returncode
    words = [word for word in words if not word.startswith("--context=")]
    assert words[0] == "--namespace", words
    words = words[2:]
    if words[:2] == ["create", "job"]:
        print(json.dumps(_job(words[2], words[3].removeprefix("--from=cronjob/"))))
    elif words[0] == "create":
        JOB.write_text(sys.stdin.read(), "utf-8")
    elif words[0] == "delete":
        JOB.rename(CLUSTER / "deleted.json")
    elif words[:2] == ["get", "job"]:
        print(words[2])
    elif words[:2] == ["get", "secret"]:
        print((CLUSTER / "secrets" / words[2] / "url").read_text("utf-8"))
    elif words[:2] == ["get", "pods"]:
        selector = words[words.index("--selector") + 1]
        if "instanceRole=primary" in selector:
            print("pod/postgres-2")
        elif "Running" in words[-1] and JOB.exists():
            print(POD)
    elif words[0] == "exec":
        end = words.index("--")
        return _execute(next(word for word in words[1:end] if not word.startswith("-")), words[end + 1 :])
    return 0


def _job(name: str, mould: str) -> dict[str, object]:
    """What `kubectl create job --from` makes of a CronJob."""
    each = json.loads((CLUSTER / "cronjob.json").read_text("utf-8"))
    assert each["metadata"]["name"] == mould, mould
    template = each["spec"]["jobTemplate"]
    metadata = {"name": name, "namespace": each["metadata"]["namespace"], **template["metadata"]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]}


def _execute(pod: str, words: list[str]) -> int:
    if pod != POD:
        return _in_a_store(pod, words)
    inside = CLUSTER / "tmp"
    inside.mkdir(exist_ok=True)
    words = [word.replace("/tmp/", f"{inside}/") for word in words]  # noqa: S108 - the pod's
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}
    if words[0] == "hoso24" and not (CLUSTER / "secrets").exists():
        return 0
    if words[0] == "hoso24":
        job = json.loads(JOB.read_text("utf-8"))
        pod_spec = job["spec"]["template"]["spec"]
        sources = pod_spec["volumes"][0]["projected"]["sources"]
        files = {
            item["path"]: (each["secret"]["name"], item["key"]) for each in sources for item in each["secret"]["items"]
        }
        for entry in pod_spec["containers"][0]["env"]:
            name, key = files[Path(entry["value"]).name]
            environ[entry["name"]] = str(CLUSTER / "secrets" / name / key)
        words = [sys.executable, "-m", "hoso24", *words[1:]]
    return subprocess.run(words, check=False, env=environ, cwd=inside).returncode


def _in_a_store(pod: str, words: list[str]) -> int:
    """The primary of Redis is redis-1; otherwise what is asked is printed, with what comes by standard input."""
    if "info replication" in words[-1]:
        print("role:master" if pod == "redis-1" else "role:slave")
        return 0
    print(json.dumps({"pod": pod, "words": words, "input": sys.stdin.read()}))
    return 3


sys.exit(main(sys.argv[1:]))
