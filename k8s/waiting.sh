# For k8s/apply and k8s/operate, which source it: waiting that shows progress, names what holds it up, and ends.

PAUSE=${PAUSE:-2}         # seconds between two looks
PATIENCE=${PATIENCE:-150} # looks in a row in which a pod may be held up, by an image or a node: five minutes
FAILURES=${FAILURES:-5}   # looks in a row in which kubectl may fail

# kubectl's own options come before its command: what follows may be another program's.
options=
for_kubectl() {
    options="$options '$(printf '%s' "$1" | sed "s/'/'\\\\''/g")'"
}
kube() { eval "kubectl $options"' "$@"'; }
inside() { kube --namespace "$namespace" "$@"; }

fail() {
    echo "$*" >&2
    exit 1
}

# One line for each pod that does not run, with the reason; nothing for one that is merely starting.
REASONS='{{range .items}}{{$pod := .metadata.name}}{{range .status.conditions}}{{if and (eq .type "PodScheduled") (eq .status "False")}}{{$pod}}: {{.reason}}: {{.message}}
{{end}}{{end}}{{range .status.initContainerStatuses}}{{with .state.waiting}}{{if .message}}{{$pod}}: {{.reason}}: {{.message}}
{{end}}{{end}}{{end}}{{range .status.containerStatuses}}{{with .state.waiting}}{{if .message}}{{$pod}}: {{.reason}}: {{.message}}
{{end}}{{end}}{{with .state.terminated}}{{if ne .exitCode 0}}{{$pod}}: {{or .reason "Error"}}: ended with exit status {{.exitCode}}
{{end}}{{end}}{{end}}{{end}}'

# Why a pod that is given to a node does not begin: a Secret that is missing, a volume that cannot be mounted.
EVENTS='{{range .items}}{{if ne .reason "Unhealthy"}}{{if ne .reason "BackOff"}}{{.involvedObject.name}}: {{.reason}}: {{.message}}
{{end}}{{end}}{{end}}'
PENDING='{{range .items}}{{if eq .status.phase "Pending"}}{{.metadata.name}} {{end}}{{end}}'

# What keeps the pods with these labels from running. Never fails: it explains, others judge.
reasons() {
    inside get pods --selector "$1" --output "go-template=$REASONS" 2>/dev/null || true
    for pod in $(inside get pods --selector "$1" --output "go-template=$PENDING" 2>/dev/null || true); do
        inside get events --field-selector "type=Warning,involvedObject.name=$pod" \
            --output "go-template=$EVENTS" 2>/dev/null | grep -v ': FailedScheduling: ' | tail -n 1 || true
    done
}

# await OBJECT LABELS STATE SECONDS: looks at the object until the function STATE, which prints one line, prints `done`;
# ends the program when it prints `failed …`, when the object is gone, when kubectl fails again and again, when pods are
# held up for too long, or after so many seconds.
await() {
    object=$1 labels=$2 state=$3 ends=$(($(date +%s) + $4))
    shown= held= looks=0 failed=0
    while :; do
        if now=$("$state" "$object" 2>&1); then
            failed=0
        else
            case $now in
                *NotFound*) fail "$object is gone: it was deleted meanwhile. Run this again." ;;
            esac
            failed=$((failed + 1))
            [ "$failed" -lt "$FAILURES" ] || fail "kubectl fails: $now"
            now="kubectl fails, asking again: $now"
        fi
        [ "$now" = "$shown" ] || echo "   $object: $now"
        shown=$now
        case $now in
            done*) return 0 ;;
            failed*)
                explain
                exit 1
                ;;
        esac
        why=$(reasons "$labels" | sort -u)
        [ -z "$why" ] || [ "$why" = "$held" ] || echo "$why" | sed 's/^/   pod /'
        held=$why
        # An attempt that has ended holds up no later one.
        case $(echo "$why" | grep -v ': ended with exit status') in
            '') looks=0 ;;
            *) looks=$((looks + 1)) ;;
        esac
        [ "$looks" -lt "$PATIENCE" ] || { explain; fail "$object has been held up for too long: $why"; }
        [ "$(date +%s)" -lt "$ends" ] || { explain; fail "$object is not ready after $4 s: $now"; }
        sleep "$PAUSE"
    done
}

# The last words of the pods that are waited for.
explain() {
    inside logs --selector "$labels" --tail=50 --prefix >&2 2>/dev/null || true
}
