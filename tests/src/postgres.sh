# Runs one PostgreSQL for a test process: sh postgres.sh PROGRAMS FOLDER [SERVER OPTION…]
#
# Takes an order a line from standard input, and answers each with `ok` or `failed`; what the programs say goes into
# the log. Standard input ends when the test process does, however that comes about; then server and folder go too.
programs=$1
folder=$2
shift 2
server=
# Nobody may be left to read an answer.
trap '' PIPE
exec 2>>"$folder/log"

init() {
    "$programs/initdb" --no-sync --username=handshake --auth=scram-sha-256 --pwfile="$folder/password" \
        --locale=C --encoding=UTF8 --pgdata="$folder/data" >&2
}

# An authority of its own, and a certificate for this machine that it signed; then nobody gets in without TLS.
certify() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=Handshake test authority' \
        -keyout "$folder/ca.key" -out "$folder/ca.crt" >&2 &&
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
            -keyout "$folder/server.key" -out "$folder/server.csr" >&2 &&
        echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >"$folder/server.ext" &&
        openssl x509 -req -days 2 -in "$folder/server.csr" -extfile "$folder/server.ext" \
            -CA "$folder/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial -out "$folder/server.crt" >&2 &&
        chmod 600 "$folder/server.key" &&
        echo 'hostssl all all 127.0.0.1/32 scram-sha-256' >"$folder/data/pg_hba.conf"
}

# Whether the server itself says that it takes connections. Asking at the port could find somebody else's.
ready() {
    awk -v server="$server" 'NR == 1 { id = $1 } NR == 8 { state = $1 } END { exit !(id == server && state == "ready") }' \
        "$folder/data/postmaster.pid"
}

start() {
    [ -z "$server" ] || return 0
    "$programs/postgres" -D "$folder/data" "$@" >&2 &
    server=$!
    until ready 2>/dev/null; do
        if ! kill -s 0 "$server"; then
            server=
            return 1
        fi
        sleep 0.05
    done
}

# Ends the server with a signal and waits until it is gone.
end() {
    [ -n "$server" ] || return 0
    kill -s "$1" "$server"
    wait "$server" || true
    server=
}

# What a crash leaves: no process says a word to its clients or to the disk. The first process is frozen, so that it
# sees none of this, and may then take back its shared memory, which would stay forever.
crash() {
    [ -n "$server" ] || return 0
    command -v ps >&2 || return
    kill -s STOP "$server"
    # shellcheck disable=SC2046  # one word for each process
    kill -s KILL $(ps -A -o ppid= -o pid= | awk -v server="$server" '$1 == server { print $2 }')
    kill -s QUIT "$server"
    kill -s CONT "$server"
    wait "$server" || true
    server=
}

while read -r order port; do
    case $order in
    init) init ;;
    certify) certify ;;
    start) start -c port="$port" "$@" ;;
    stop) end INT ;;
    kill) crash ;;
    esac && echo ok || echo failed
done

# Nobody wants the data any more, so the server need not write it down.
end QUIT
cd / && rm -rf "$folder"
