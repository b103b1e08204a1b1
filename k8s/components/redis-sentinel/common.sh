# Shared by both start scripts. Addresses, not names, because a Sentinel must fail over without DNS; addresses of
# Services, because a pod's own changes with every restart and Sentinels never forget one.

# Where to find the server of this very pod.
own=${OWN_ADDRESS:-127.0.0.1}

# With a certificate (components/redis-tls mounts one) every connection uses TLS.
if [ -e /etc/valkey-tls/tls.crt ]; then
    files="--tls-cert-file /etc/valkey-tls/tls.crt --tls-key-file /etc/valkey-tls/tls.key --tls-ca-cert-file /etc/valkey-tls/ca.crt"
    tls="--tls --cacert /etc/valkey-tls/ca.crt"
else
    files=
    tls=
fi

# The options of a server that listens at this port. A client shows no certificate: it has a password.
listening() {
    if [ -n "$tls" ]; then
        echo "--port 0 --tls-port $1 $files --tls-auth-clients no --tls-replication yes"
    else
        echo "--port $1"
    fi
}

# Runs a command each time the certificate has been renewed.
on_renewal() {
    used=$(cksum < /etc/valkey-tls/tls.crt)
    while sleep "${LOOK_EVERY:-60}"; do
        found=$(cksum < /etc/valkey-tls/tls.crt) || continue
        if [ "$found" != "$used" ] && "$@"; then
            used=$found
        fi
    done
}

# The address of a pod's own Service.
address() {
    getent ahostsv4 "$1" | awk 'NR == 1 { print $1; found = 1 } END { exit !found }'
}

# The answer of the first Sentinel that answers a query; fails when none does. Each is tried twice, so that a slow one
# is not taken for one that is down.
ask() {
    for each in 0 1 2 0 1 2; do
        if said=$(
            REDISCLI_AUTH=$(head -n 1 /etc/valkey-auth/sentinel-client-password) timeout 2 \
                valkey-cli $tls -e --no-auth-warning --user client -h "sentinel-node-$each" -p 26379 sentinel "$@" 2>/dev/null
        ); then
            echo "$said"
            return 0
        fi
    done
    return 1
}

# The primary's address by the Sentinels; fails when none answers.
by_sentinels() {
    answer=$(ask get-master-addr-by-name hoso24) || return 1
    [ -n "$answer" ] && echo "$answer" | head -n 1
}

# The primary's address by the Valkeys' own roles; fails when none answers. A replica votes for the server it follows, a
# primary for itself, once more for each of its replicas. So a replica that started alone as a primary does not win.
by_roles() {
    for each in 0 1 2; do
        timeout 2 valkey-cli $tls -e --no-auth-warning --user probe --pass - -h "redis-node-$each" -p 6379 \
            info replication 2>/dev/null | tr -d '\r' | awk -F: -v node="$(address "redis-node-$each")" '
                { said[$1] = $2 }
                END {
                    if (said["role"] == "master") print node, 1 + said["connected_slaves"]
                    if (said["role"] == "slave") print said["master_host"], 1
                }'
    done | awk '
        { votes[$1] += $2; if (votes[$1] > most) { most = votes[$1]; primary = $1 } }
        END { if (most) print primary; exit !most }'
}

# The primary's address. Where neither a Sentinel nor a Valkey has answered for some seconds nothing has started yet, and
# it is the first pod.
primary() {
    for attempt in 1 2 3; do
        by_sentinels || by_roles || { sleep 1; continue; }
        return 0
    done
    address redis-node-0
}

# Whether a replica exists that could take over.
has_replicas() {
    [ -n "$(ask replicas hoso24)" ]
}
