# What both start scripts need. Addresses, because a Sentinel without DNS in the middle of a failover is of no use; those of
# Services, because a pod's own changes with every restart and Sentinels never forget one.

# The address of a pod's own Service.
address() {
    getent ahostsv4 "$1" | awk 'NR == 1 { print $1; found = 1 } END { exit !found }'
}

# What the first Sentinel that answers says to a question; fails when none does.
ask() {
    for each in 0 1 2; do
        if said=$(timeout 2 valkey-cli -h "sentinel-node-$each" -p 26379 sentinel "$@" 2>/dev/null); then
            echo "$said"
            return 0
        fi
    done
    return 1
}

# The primary's address; fails when no Sentinel can be asked.
primary() {
    answer=$(ask get-master-addr-by-name hoso24) || return 1
    [ -n "$answer" ] && echo "$answer" | head -n 1
}

# Whether there is anybody who could take over.
has_replicas() {
    [ -n "$(ask replicas hoso24)" ]
}
