#!/bin/sh
# Makes the secrets of compose.yaml at the first start, each in a file of its own, readable by its owner and group.
# A file that exists stays: put your own there before, or change one by removing it and those that are made of it.
set -eu
umask 027
cd "${1:-/run/secrets}"

random() { od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME: standard input becomes the file NAME, whole or not at all, unless there is one.
keep() {
    if [ -e "$1" ]; then
        cat >/dev/null
    else
        cat >"$1.new"
        mv "$1.new" "$1"
    fi
}

for name in postgres-password extauthz-password grafana-database-password grafana-password \
    redis-password redis-admin-password redis-replica-password; do
    random | keep "$name"
done
echo "compose:$(random)" | keep pepper
echo "compose:$(random)" | keep admin-token

redis="extauthz:$(cat redis-password)"
replica=$(cat redis-replica-password)
echo "postgresql://extauthz:$(cat extauthz-password)@postgres:5432/extauthz" | keep database-url
echo "redis://$redis@redis:6379/0" | keep redis-url
echo "redis+sentinel://$redis@sentinel-1:26379,sentinel-2:26379,sentinel-3:26379/mymaster" | keep redis-sentinel-url
echo "redis+cluster://$redis@redis:6379,redis-2:6379,redis-3:6379" | keep redis-cluster-url

# The rights of extauthz are those that docs/howto/run-it.md lists. Without a password one can only ask for a sign of life.
keep redis.acl <<EOF
user default on nopass resetkeys resetchannels -@all +ping
user admin on >$(cat redis-admin-password) ~* &* +@all
user replica on >$replica resetkeys resetchannels -@all +psync +replconf +ping
user extauthz on >$(cat redis-password) resetchannels -@all ~tenant_limits:* ~address_limits:* ~charge_once:* ~usage_due ~api_key_cache:* ~tenant_quota_cache:* ~cache_fence:* +eval +evalsha +time +info +get +set +incr +del +exists +pttl +pexpire +hset +hsetnx +hget +hmget +hdel +hlen +hkeys +hscan +zadd +zrem +zscore +zrange
EOF
keep redis-replica.conf <<EOF
masteruser replica
masterauth $replica
EOF
keep sentinel-auth.conf <<EOF
sentinel auth-user mymaster admin
sentinel auth-pass mymaster $(cat redis-admin-password)
EOF
