#!/bin/sh
# Runs on the target, after apply_running.sh, until its standard input is closed. Says `ready`; the low state when the
# first state starts; then the log's lines about states. The loop and tail end with this shell, whose process number
# they watch.
# $1 is Salt's log there, $2 the directory of salt-ssh.
log=$1 thin=$2
umask 077
if [ -e "$log" ]; then : > "$log"; fi
echo ready
{
  while [ ! -e "$log" ] && kill -0 $$; do sleep 0.2; done
  exec tail --pid=$$ -n +1 -F "$log"
} 2> /dev/null | grep --line-buffered -E '(Executing|Completed) state |waits for apt' | {
  IFS= read -r first
  tar -xOzf "$thin"/salt_state.tgz lowstate.json | tr -d '\n'
  printf '\n%s\n' "$first"
  exec cat
} &
cat > /dev/null
kill $! 2> /dev/null
