signals=$1 tries=$2 leave=$3
shift 3
trap : HUP INT TERM
exec 3<&0
"$@" </dev/null >&2 3<&- &
server=$!
echo "$server"
exec >/dev/null 2>&1
(
  trap '' HUP INT TERM
  while read -r _; do :; done
  trap '' USR1
  for signal in $signals; do
    n=0
    kill -s "$signal" "$server" || exit 0
    while [ "$n" -lt "$tries" ] && kill -0 "$server"; do
      sleep 0.1
      n=$((n + 1))
      # Again each second: one that came while the server was being started may be lost.
      [ $((n % 10)) -ne 0 ] || kill -s "$signal" "$server"
    done
  done
  exit 0
) <&3 &
reader=$!
exec 3<&-
while :; do
  wait "$server"
  status=$?
  kill -0 "$server" || break
done
# Ends a reader that still waits for end-of-file; one that has read it is deaf to this, and soon done.
kill -s USR1 "$reader"
if wait "$reader" && [ -n "$leave" ]; then
  cd / && rm -rf -- "$leave"
  rmdir -- "${leave%/*}"
fi
exit "$status"
