#!/usr/bin/env bash
# The units of systemd/ under a real systemd, in a throw-away box.
#
#   tests/systemd/run.sh [options for the box, for instance --bpo]
#
# Needs a tool that boots systemd beside the machine's own and runs one command in it: `$SYSTEMD_BOX run [--bind DIR] COMMAND`. Without one
# the test is skipped. HEIRLOOM_BIN_DIR names the directory of the two binaries (default: target/release, else target/debug).

set -u -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ "${1:-}" != --inside ]; then
    box=${SYSTEMD_BOX:-$(command -v systemd-box || true)}
    if [ -z "$box" ]; then
        echo "skipped: SYSTEMD_BOX names no tool that boots systemd"
        exit 0
    fi
    bin=${HEIRLOOM_BIN_DIR:-}
    for candidate in "$root/target/release" "$root/target/debug"; do
        [ -z "$bin" ] && [ -x "$candidate/heirloom" ] && [ -x "$candidate/heirloom-supervisor" ] && bin=$candidate
    done
    if [ -z "$bin" ]; then
        echo "build first: cargo build --release" >&2
        exit 1
    fi
    exec "$box" run "$@" --bind "$root" --bind "$bin" bash "$root/tests/systemd/run.sh" --inside "$bin"
fi

# ---------------------------------------------------------------------------------------------------------------- in the box
bin=$2
failures=0
scratch=$(mktemp -d)

say() { printf '%s\n' "$*"; }
check() { # what, condition as a command
    local what=$1
    shift
    if "$@"; then say "ok    $what"; else say "FAIL  $what"; failures=$((failures + 1)); fi
}
eventually() { # a condition as text, evaluated anew each time, for at most 15 s
    local end=$((SECONDS + 15))
    until eval "$1" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.02
    done
}
equal() { [ "$1" = "$2" ] || { say "      '$1' is not '$2'"; return 1; }; }
property() { systemctl show heirloom.service --value -p "$1"; }
answers() { [ "$(curl -s -m 15 "http://127.0.0.1$1")" = "$2" ]; }
supervisor() { heirloom-supervisor "$@" --run-dir /run/heirloom; }
epoch() { supervisor status --json | grep -B3 '"state": "active"' | sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p"; }
counter() { curl -s -m 15 http://127.0.0.1:9901/stats | sed -n "s/^$1: //p"; }

# Clients that open a connection for every request and never try again, until the file `stop` is there; every answer that is not
# 200 leaves a line in `errors`.
load() {
    rm -f "$scratch/stop" "$scratch/errors" "$scratch/served"
    for client in 1 2 3; do
        (
            while [ ! -e "$scratch/stop" ]; do
                if code=$(curl -s -m 15 -o /dev/null -w '%{http_code}' "http://127.0.0.1/service/$((client % 2 + 1))") && [ "$code" = 200 ]; then
                    echo x >>"$scratch/served"
                else
                    echo "code $code" >>"$scratch/errors"
                fi
            done
        ) &
        clients+=($!)
    done
}
unload() {
    touch "$scratch/stop"
    wait "${clients[@]}"
    clients=()
    say "      $(wc -l <"$scratch/served") requests, $(cat "$scratch/errors" 2>/dev/null | wc -l) failed"
    [ ! -s "$scratch/errors" ]
}
clients=()

# Clients that connect now and wait for their answers: `queue N` starts them, `queued` says whether all were served.
queue() {
    rm -f "$scratch"/queue.*
    waiting=()
    for client in $(seq "$1"); do
        curl -s -m 20 -o /dev/null -w '%{http_code}' "http://127.0.0.1${2:-/service/1}" >"$scratch/queue.$client" &
        waiting+=($!)
    done
}
connected() { # N connections wait in the queue of port $2
    [ "$(ss -Htn state established "( dport = :$2 )" | wc -l)" -ge "$1" ]
}
queued() {
    wait "${waiting[@]}"
    for answer in "$scratch"/queue.*; do
        [ "$(cat "$answer")" = 200 ] || { say "      one was answered '$(cat "$answer")'"; return 1; }
    done
}

install -m 755 "$bin/heirloom" "$bin/heirloom-supervisor" /usr/bin/
mkdir -p /etc/heirloom /etc/systemd/system/heirloom.service.d
configure() { # port of the front, text of the first service
    sed -e "s/port_value: 10000/port_value: 80/; 0,/address: 127.0.0.1, port_value: 80/s//address: 0.0.0.0, port_value: 80/" \
        -e "s/hello from service 1/$1/" "$root/configs/front-proxy.yaml" >/etc/heirloom/heirloom.draft
    mv /etc/heirloom/heirloom.draft /etc/heirloom/heirloom.yaml
}
configure first
cp "$root/systemd/heirloom.service" "$root/systemd/heirloom.socket" /etc/systemd/system/
systemctl daemon-reload

say "systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')"
check "systemd-analyze verify finds nothing" eval \
    '[ -z "$(systemd-analyze verify /etc/systemd/system/heirloom.service /etc/systemd/system/heirloom.socket 2>&1 | tee /dev/stderr)" ]'
check "the exposure is at most 2.0" eval \
    'systemd-analyze security --offline=true --threshold=20 --no-pager /etc/systemd/system/heirloom.service | tail -1 | grep -o "[0-9.]* OK"'

# Short waits, so that the whole test takes seconds.
cat >/etc/systemd/system/heirloom.service.d/test.conf <<'CONF'
[Service]
ExecStart=
ExecStart=/usr/bin/heirloom-supervisor --probation-time-s 0.5 --parent-shutdown-time-s 5 --stop-time-s 2 -- /usr/bin/heirloom -c /etc/heirloom/heirloom.yaml --drain-time-s 1 --drain-strategy immediate
CONF
systemctl daemon-reload

say "--- activation"
systemctl start heirloom.socket
check "nothing runs before the first client" equal "$(property ActiveState)" inactive
check "the first client on port 80 starts it and is served" answers /service/1 first
check "it says that it is ready" eventually '[ "$(property ActiveState)" = active ]'
check "the main process is the supervisor" equal "$(readlink "/proc/$(property MainPID)/exe")" /usr/bin/heirloom-supervisor
check "nobody in it is root" eval '! ps -o uid= -p "$(property MainPID),$(epoch pid)" | grep -qw 0'
check "and nobody in it has a capability" eval '! grep -H CapEff /proc/$(property MainPID)/status /proc/$(epoch pid)/status | grep -v "0000000000000000$"'
check "the port came from systemd" eval 'journalctl -u heirloom | grep -q "0.0.0.0:80 is served by 1 passed"'

[ "$failures" = 0 ] || { journalctl -u heirloom --no-pager | tail -60; exit 1; }

say "--- reload under load"
load
before=$(epoch epoch)
for marker in second third fourth; do
    configure "$marker"
    check "systemctl reload to '$marker' succeeds" systemctl reload heirloom
    check "and it serves" answers /service/1 "$marker"
done
check "three epochs later" equal "$(epoch epoch)" $((before + 3))
echo 'static_resources: { listners: [] }' >/etc/heirloom/heirloom.yaml
check "systemctl reload of a broken configuration fails" eval '! systemctl reload heirloom 2>/dev/null'
check "what served serves on" answers /service/1 fourth
check "the service is well" eventually '[ "$(property ActiveState)" = active ]'
check "no request failed" unload

say "--- kill -9 of the epoch"
configure fifth
check "reload" systemctl reload heirloom
pid=$(epoch pid)
requests=$(counter http.front.downstream_rq_total)
kill -STOP "$pid"
queue 100
check "100 clients wait in the queue" eventually 'connected 100 80'
kill -KILL "$pid"
check "all are served by the next epoch" queued
check "no request is uncounted" test "$(counter http.front.downstream_rq_total)" -ge $((requests + 100))

say "--- kill -9 of the supervisor"
pid=$(epoch pid) main=$(property MainPID)
requests=$(counter http.front.downstream_rq_total)
# The epoch must not take the clients with it into its end.
kill -STOP "$pid"
kill -KILL "$main"
queue 50
check "the clients of the gap are served" queued
check "systemd started another supervisor" eval '[ "$(property MainPID)" != "$main" ] && [ "$(property NRestarts)" = 1 ]'
check "the sockets that systemd did not bind came back too" eval \
    'journalctl -u heirloom | grep -q "127.0.0.1:9901 is served by 1 passed"'
check "and the statistics" test "$(counter http.front.downstream_rq_total)" -ge $((requests + 50))
check "nobody of the old ones is left" eval '! kill -0 "$pid" 2>/dev/null'

say "--- the supervisor replaces itself"
main=$(property MainPID) pid=$(epoch pid)
cp /usr/bin/heirloom-supervisor /usr/bin/heirloom-supervisor.new && mv /usr/bin/heirloom-supervisor.new /usr/bin/heirloom-supervisor
load
systemctl kill --kill-who=main -s USR2 heirloom
check "another image" eventually '[ "$(readlink /proc/$main/exe)" = /usr/bin/heirloom-supervisor ]'
check "the same processes" eventually '[ "$(property MainPID)" = "$main" ] && [ "$(epoch pid)" = "$pid" ]'
check "reload" systemctl reload heirloom
check "no request failed" unload

say "--- the watchdog"
printf '[Service]\nWatchdogSec=1\n' >/etc/systemd/system/heirloom.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart heirloom
main=$(property MainPID)
kill -STOP "$main"
check "a supervisor that hangs is replaced" eventually 'p=$(property MainPID); [ "$p" != 0 ] && [ "$p" != "$main" ]'
check "and the next serves" answers /service/2 "hello from service 2"
rm /etc/systemd/system/heirloom.service.d/watchdog.conf
systemctl daemon-reload

say "--- epochs outlive the supervisor (drop-ins/outlive.conf)"
cp "$root/systemd/drop-ins/outlive.conf" /etc/systemd/system/heirloom.service.d/
printf '[Service]\nTimeoutStopSec=4\n' >/etc/systemd/system/heirloom.service.d/short.conf
systemctl daemon-reload
check "systemd-analyze verify finds nothing" eval \
    '[ -z "$(systemd-analyze verify /etc/systemd/system/heirloom.service 2>&1 | tee /dev/stderr)" ]'
configure eighth
systemctl restart heirloom
configure ninth
check "reload" systemctl reload heirloom
main=$(property MainPID) pid=$(epoch pid) starts=$(property NRestarts)
# A connection that is open before and after.
exec 9<>/dev/tcp/127.0.0.1/80
ask() { printf 'GET /service/1 HTTP/1.1\r\nhost: a\r\n\r\n' >&9 && timeout 10 grep -qm1 "$1" <&9; }
check "a client is connected" ask ninth
load
[ "$main" -gt 1 ] && kill -KILL "$main"
check "systemd starts another supervisor" eventually '[ "$(property NRestarts)" -gt "$starts" ] && [ "$(property ActiveState)" = active ]'
check "which takes the epoch in" eventually '[ "$(epoch pid)" = "$pid" ]'
check "no request failed" unload
check "the connection is the same" ask ninth
exec 9>&-
check "a roll-back knows what was before" supervisor rollback
check "and serves it" answers /service/1 eighth
main=$(property MainPID) pid=$(epoch pid)
printf '[Service]\nWatchdogSec=1\n' >/etc/systemd/system/heirloom.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart heirloom
main=$(property MainPID) pid=$(epoch pid)
[ "$main" -gt 1 ] && kill -STOP "$main"
check "a supervisor that hangs is replaced" eventually 'p=$(property MainPID); [ "$p" != 0 ] && [ "$p" != "$main" ] && [ "$(property ActiveState)" = active ]'
check "and the epoch stays" eventually '[ "$(epoch pid)" = "$pid" ]'
rm /etc/systemd/system/heirloom.service.d/watchdog.conf
systemctl daemon-reload
check "stop" systemctl stop heirloom.socket heirloom.service
check "ends every epoch" eval '! pgrep -x heirloom'
systemctl start heirloom
main=$(property MainPID)
[ "$main" -gt 1 ] && kill -STOP "$main"
systemctl stop heirloom
check "also when the supervisor hangs" eventually '! pgrep heirloom'
systemctl reset-failed heirloom
check "a start after that is as any" systemctl start heirloom.socket heirloom.service
check "and serves" answers /service/2 "hello from service 2"
cp /etc/heirloom/heirloom.yaml "$scratch/good.yaml"
systemctl stop heirloom
echo 'static_resources: { listners: [] }' >/etc/heirloom/heirloom.yaml
timeout 5 systemctl start heirloom 2>/dev/null
check "a start that fails leaves nothing" eventually 'systemctl stop heirloom; ! pgrep -x heirloom'
mv "$scratch/good.yaml" /etc/heirloom/heirloom.yaml
rm /etc/systemd/system/heirloom.service.d/outlive.conf /etc/systemd/system/heirloom.service.d/short.conf
systemctl daemon-reload
systemctl start heirloom.socket heirloom.service

if [ "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" -ge 253 ]; then
    say "--- Type=notify-reload"
    cp "$root/systemd/drop-ins/notify-reload.conf" /etc/systemd/system/heirloom.service.d/
    systemctl daemon-reload
    systemctl restart heirloom
    load
    before=$(epoch epoch)
    configure seventh
    check "systemctl reload waits for the takeover" systemctl reload heirloom
    check "which is then over" equal "$(epoch epoch)" $((before + 1))
    check "and serves" answers /service/1 seventh
    check "no request failed" unload
fi

say "--- an upgrade by versioned directories"
for version in 1.0 1.1; do
    mkdir -p "/opt/heirloom/$version/bin"
    cp /usr/bin/heirloom /usr/bin/heirloom-supervisor "/opt/heirloom/$version/bin/"
done
ln -sfn 1.0 /opt/heirloom/current
rm /etc/systemd/system/heirloom.service.d/*
cp "$root/systemd/drop-ins/upgrade.conf" /etc/systemd/system/heirloom.service.d/
systemctl daemon-reload
systemctl restart heirloom
main=$(property MainPID)
check "the old version runs" equal "$(readlink "/proc/$(epoch pid)/exe")" /opt/heirloom/1.0/bin/heirloom
ln -sfn 1.1 /opt/heirloom/current
load
check "systemctl reload" systemctl reload heirloom
check "the new version runs" equal "$(readlink "/proc/$(epoch pid)/exe")" /opt/heirloom/1.1/bin/heirloom
check "under a new supervisor" eventually '[ "$(readlink /proc/$main/exe)" = /opt/heirloom/1.1/bin/heirloom-supervisor ]'
check "in the same process" equal "$(property MainPID)" "$main"
check "a roll-back runs the old version" eval 'supervisor rollback && [ "$(readlink /proc/$(epoch pid)/exe)" = /opt/heirloom/1.0/bin/heirloom ]'
check "no request failed" unload

say "--- the end"
check "stop" systemctl stop heirloom.socket heirloom.service
check "nothing is left" eval '! pgrep heirloom'
check "it ended well" equal "$(property Result)" success

if [ "$failures" -gt 0 ]; then
    say "$failures failed"
    journalctl -u heirloom --no-pager | tail -60
    exit 1
fi
say "all well"
