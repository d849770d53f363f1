#!/bin/sh
# A command hook: trim_redis.sh SOCKET. Drops what redis holds and says how many bytes that gave.
used() { redis-cli -s "$1" info memory | sed -n 's/^used_memory_rss:\([0-9]*\).*/\1/p'; }
before=$(used "$1")
redis-cli -s "$1" flushall sync >/dev/null
redis-cli -s "$1" memory purge >/dev/null
after=$(redis-cli -s "$1" info memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p')
echo $((before - after))
