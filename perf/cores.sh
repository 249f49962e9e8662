# Sourced by the runners beside this file: SERVER_CORE and LOAD_CORE, the first and the last core that this process may use.
# Fails if there is only one.
CORES=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
SERVER_CORE=${CORES%%[-,]*} LOAD_CORE=${CORES##*[-,]}
[ "$SERVER_CORE" != "$LOAD_CORE" ] || { echo "server and load need a core each, and this process may only use core $CORES" >&2; return 1; }
