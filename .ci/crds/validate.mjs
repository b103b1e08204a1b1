// Reads a JSON array of objects, writes a JSON array of what is wrong with them: [{"object", "path", "message"}].
//
// The packages hold validators compiled from the operators' own definitions. Those pass over fields they do not know, as
// such definitions do; an API server asked strictly refuses them. So the validator is given an object that remembers which
// of its fields were looked at: one that was not is one that the definition does not have.
import { Certificate } from "@kubernetes-models/cert-manager/cert-manager.io/v1/Certificate";
import { Issuer } from "@kubernetes-models/cert-manager/cert-manager.io/v1/Issuer";
import { Cluster } from "@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1/Cluster";
import { Backup } from "@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1/Backup";
import { Pooler } from "@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1/Pooler";
import { ScheduledBackup } from "@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1/ScheduledBackup";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { Probe } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/Probe";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { readFileSync } from "node:fs";

const KINDS = Object.fromEntries(
  [Certificate, Issuer, Backup, Cluster, Pooler, ScheduledBackup, HTTPRoute, PodMonitor, Probe, PrometheusRule].map((model) => [
    `${model.apiVersion} ${model.kind}`,
    model,
  ]),
);

function watched(value, path, seen) {
  if (value === null || typeof value !== "object") return value;
  const copy = Array.isArray(value) ? [] : {};
  for (const [key, inner] of Object.entries(value)) copy[key] = watched(inner, `${path}/${key}`, seen);
  return new Proxy(copy, {
    get(target, key) {
      if (typeof key === "string") seen.add(`${path}/${key}`);
      return target[key];
    },
  });
}

function* fields(value, path = "") {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    yield `${path}/${key}`;
    yield* fields(inner, `${path}/${key}`);
  }
}

function* faults(object) {
  const name = `${object.kind} ${object.metadata.name}`;
  const model = KINDS[`${object.apiVersion} ${object.kind}`];
  if (model === undefined) {
    yield { object: name, path: "", message: "no schema is known for it" };
    return;
  }
  const seen = new Set();
  try {
    model.prototype.validate.call(watched(object, "", seen));
  } catch (error) {
    yield { object: name, path: error.path ?? "", message: error.message };
    return;
  }
  let unknown = null;
  for (const path of fields(object)) {
    if (unknown !== null && path.startsWith(`${unknown}/`)) continue;
    if (!seen.has(path)) {
      unknown = path;
      yield { object: name, path, message: "unknown field" };
    }
  }
}

const objects = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(JSON.stringify(objects.flatMap((object) => [...faults(object)])));
