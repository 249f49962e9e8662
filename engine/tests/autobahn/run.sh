#!/usr/bin/env bash
# Autobahn|Testsuite fuzzingclient against a WebSocket echo server.
#
#   run.sh [-s fast|full] [-c CASES] [-x CASES] [-t SECONDS] URL OUTDIR
#   run.sh -p                says which Python 2.7 it would use; exit 2 if there is none
#
#   URL      ws://127.0.0.1:PORT/path or wss://...: an endpoint that echoes each message
#            (same type, same payload), accepts permessage-deflate, and takes >= 16 MiB messages
#   OUTDIR   gets index.json, one JSON and HTML file a case, wstest.log, pip.log, times.txt
#   -s full  (default) all 517 cases; fast: 326 cases, groups 1-7, 9, 10 whole and a slice of 12/13
#   -c / -x  comma list of case patterns to run / to leave out (overrides -s), e.g. -c '1.*,2.*'
#   -t       bound on the whole run, in seconds (default 3000)
#
# Environment: AUTOBAHN_HOME (the venv; default ~/.cache/autobahn-25.10.1), PYTHON27 (interpreter),
#   AUTOBAHN_AGENT (name in the report), AUTOBAHN_ALLOW_UNIMPLEMENTED=1 (a refused permessage-deflate
#   offer then counts as informational, not as failed), AUTOBAHN_NICE (default 0).
#
# Exit: 0 all cases pass (OK, NON-STRICT or INFORMATIONAL in behaviour and in close behaviour);
#   1 at least one failed or was never run; 2 the suite could not be set up; 3 out of time.
# Last line: cases N ok N nonstrict N failed N informational N
set -euo pipefail

SET=full CASES= EXCLUDE= LIMIT=3000 PROBE=
while getopts 's:c:x:t:p' o; do
  case $o in s) SET=$OPTARG ;; c) CASES=$OPTARG ;; x) EXCLUDE=$OPTARG ;; t) LIMIT=$OPTARG ;; p) PROBE=1 ;;
    *) sed -n '2,20p' "$0" >&2; exit 2 ;; esac
done
shift $((OPTIND - 1))
die() { echo "autobahn: $*" >&2; exit 2; }

# --- 1. A Python 2.7: the suite is Python 2 source, whatever its upload date says -----------------
find_py27() {
  local p
  for p in "${PYTHON27:-}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python \
           /usr/bin/python2.7 /usr/local/bin/python2.7 \
           "$(command -v python2.7 2>/dev/null || true)" "$(command -v pypy 2>/dev/null || true)"; do
    [ -n "$p" ] && [ -x "$p" ] || continue
    "$p" -c 'import sys, ssl, zlib; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null && { echo "$p"; return; }
  done
  return 1
}

if [ -n "$PROBE" ]; then find_py27 || die 'no Python 2.7'; exit; fi
[ $# -eq 2 ] || { sed -n '2,20p' "$0" >&2; exit 2; }
URL=$1 OUT=$2
mkdir -p "$OUT"; OUT=$(cd "$OUT" && pwd)
HOME_DIR=${AUTOBAHN_HOME:-$HOME/.cache/autobahn-25.10.1}
VER=25.10.1

# --- 2. Its venv, pinned to upstream's frozen set (autobahntestsuite/requirements.txt) -------------
# wsaccel (C) makes masking and UTF-8 checks fast enough for groups 9, 12 and 13 on CPython.
setup() {
  local py v=$HOME_DIR
  py=$(find_py27) || die "no Python 2.7 here (looked at \$PYTHON27, pyenv's versions/2.7.*, python2.7, pypy)"
  rm -rf "$v"; mkdir -p "$v"
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore
  "$py" -m pip --version >/dev/null 2>&1 || "$py" -m ensurepip >/dev/null || die "no pip for $py"
  # every wheel or sdist is installed by exact version with --no-deps: no resolver, no surprise
  "$py" -m pip install -q --no-cache-dir --target "$v/boot" 'virtualenv==20.15.1' 'platformdirs==2.0.2' \
      'filelock==3.2.1' 'distlib==0.3.6' 'six==1.16.0' 'importlib-metadata==2.1.3' 'importlib-resources==3.3.1' \
      'configparser==4.0.2' 'contextlib2==0.6.0.post1' 'pathlib2==2.3.7.post1' 'scandir==1.10.0' \
      'singledispatch==3.7.0' 'typing==3.10.0.0' 'zipp==1.2.0' --no-deps
  PYTHONPATH="$v/boot" "$py" -m virtualenv -q --no-download --no-periodic-update "$v/venv"
  local pip="$v/venv/bin/pip install -q --no-compile --no-deps --no-build-isolation"
  $pip 'setuptools==44.0.0' 'wheel==0.37.1' 'typing==3.10.0.0' 'incremental==16.10.1' 'zope.interface==4.6.0' \
       'constantly==15.1.0' 'six==1.16.0' 'attrs==21.4.0' 'idna==2.10' 'hyperlink==21.0.0' 'Automat==20.2.0' \
       'PyHamcrest==1.10.1' 'enum34==1.1.10' 'ipaddress==1.0.23' 'pycparser==2.21' 'cffi==1.15.1' \
       'cryptography==3.3.2' 'pyOpenSSL==19.1.0' 'pyasn1==0.5.1' 'pyasn1-modules==0.3.0' 'service_identity==18.1.0'
  $pip 'Twisted==19.10.0' 'txaio==2.1.0' 'autobahn==0.10.9' 'jinja2==2.11.3' 'markupsafe==1.1.1' \
       'Werkzeug==1.0.1' 'klein==17.10.0' 'linecache2==1.0.0' 'traceback2==1.4.0' 'argparse==1.4.0' 'unittest2==1.1.0'
  $pip 'wsaccel==0.6.2' || echo "autobahn: wsaccel did not build; the run is slower without it" >&2
  $pip "autobahntestsuite==$VER"
  "$HOME_DIR/venv/bin/python" -W ignore -c "$PRELUDE" --autobahnversion >/dev/null
  touch "$HOME_DIR/ready-$VER"
}
PRELUDE='import sys, warnings; warnings.simplefilter("ignore")
import autobahntestsuite.wstest as w; sys.argv[0] = "wstest"; w.run()'
if [ ! -e "$HOME_DIR/ready-$VER" ]; then
  t0=$SECONDS
  mkdir -p "$(dirname "$HOME_DIR")"
  ( flock 9; [ -e "$HOME_DIR/ready-$VER" ] || setup ) 9>"$HOME_DIR.lock" >"$OUT/pip.log" 2>&1 \
    || { tail -20 "$OUT/pip.log" >&2; die "set-up failed, see $OUT/pip.log"; }
  echo "autobahn: venv made in $((SECONDS - t0)) s" >&2
fi
PY=$HOME_DIR/venv/bin/python

# --- 3. The spec, the run, the verdict -------------------------------------------------------------
if [ -z "$CASES" ]; then
  CASES='*'
  if [ "$SET" = fast ]; then
    # of permessage-deflate: each parameter set at 256 B and at 8 KiB in fragments, sizes to 8 KiB, each test file
    EXCLUDE=${EXCLUDE:-'12.1.[789],12.1.10,12.1.1[2-8],12.[2345].[1235-9],12.[2345].1[0-8],13.[1-7].[124-9],13.[1-7].1[02-8]'}
  fi
fi
export URL OUT CASES EXCLUDE AGENT=${AUTOBAHN_AGENT:-testee}
SPEC=$OUT/fuzzingclient.json
# case patterns here are fnmatch globs, anchored (the suite's own are unanchored regexes: '1.*' takes 12.1.1 too)
"$PY" -W ignore - "$SPEC" 2>"$OUT/spec.err" <<'PYEOF' || { cat "$OUT/spec.err" >&2; die "bad case list"; }
import sys, os, json, fnmatch
from autobahntestsuite.caseset import CaseSet
from autobahntestsuite.case import Cases, CaseCategories, CaseSubCategories, CaseSetname, CaseBasename
cs = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
ids = [cs.caseClasstoId(c) for c in Cases]
want = [p for p in os.environ['CASES'].split(',') if p]
drop = [p for p in os.environ['EXCLUDE'].split(',') if p]
hit = lambda i, ps: any(fnmatch.fnmatchcase(i, p) for p in ps)
run = [i for i in ids if hit(i, want) and not hit(i, drop)]
if not run:
    sys.stderr.write('no case matches\n'); sys.exit(1)
json.dump({'outdir': os.environ['OUT'], 'servers': [{'agent': os.environ['AGENT'], 'url': os.environ['URL']}],
           'cases': run, 'exclude-cases': [], 'exclude-agent-cases': {}}, open(sys.argv[1], 'w'), indent=1)
PYEOF
rm -f "$OUT/index.json"
t0=$(date +%s.%N) rc=0
( cd "$OUT" && exec timeout -k 10 "$LIMIT" nice -n "${AUTOBAHN_NICE:-0}" \
    "$PY" -u -W ignore -c "$PRELUDE" -m fuzzingclient -s "$SPEC" ) >"$OUT/wstest.log" 2>&1 </dev/null || rc=$?
export T0=$t0 RC=$rc LIMIT
"$PY" -W ignore - "$SPEC" <<'PYEOF'
import sys, os, json, time
out, agent, rc = os.environ['OUT'], os.environ['AGENT'], int(os.environ['RC'])
want = json.load(open(sys.argv[1]))['cases']
took = time.time() - float(os.environ['T0'])
key = lambda i: [int(x) for x in i.split('.')]
if rc in (124, 137) or not os.path.exists(os.path.join(out, 'index.json')):
    log = open(os.path.join(out, 'wstest.log')).read()
    seen = log.count('Running test case ID')
    print(log[-1500:])
    print('autobahn: %s after %.0f s, %d of %d cases started, no report'
          % ('out of time' if rc in (124, 137) else 'the suite ended with status %d' % rc, took, seen, len(want)))
    print('cases %d ok 0 nonstrict 0 failed %d informational 0' % (len(want), len(want)))
    sys.exit(3 if rc in (124, 137) else 1)
res = json.load(open(os.path.join(out, 'index.json'))).get(agent, {})
allow = os.environ.get('AUTOBAHN_ALLOW_UNIMPLEMENTED') == '1'
n = dict(ok=0, nonstrict=0, failed=0, informational=0)
failed, soft, times = [], [], {}
for i in sorted(want, key=key):
    r = res.get(i)
    if r is None:
        n['failed'] += 1; failed.append('%s NOT RUN' % i); continue
    b, c = r['behavior'], r['behaviorClose']
    g = i.split('.')[0]; times[g] = times.get(g, 0) + r['duration'] / 1000.
    bad = b not in ('OK', 'NON-STRICT', 'INFORMATIONAL') or c not in ('OK', 'INFORMATIONAL')
    if b == 'UNIMPLEMENTED' and allow and c in ('OK', 'INFORMATIONAL'):
        n['informational'] += 1; soft.append('%s UNIMPLEMENTED' % i)
    elif bad:
        n['failed'] += 1; failed.append('%s %s, close %s' % (i, b, c))
    elif b == 'NON-STRICT':
        n['nonstrict'] += 1; soft.append('%s NON-STRICT' % i)
    elif b == 'INFORMATIONAL':
        n['informational'] += 1; soft.append('%s INFORMATIONAL' % i)
    else:
        n['ok'] += 1
with open(os.path.join(out, 'times.txt'), 'w') as f:
    for i in sorted(res, key=key): f.write('%s %.3f\n' % (i, res[i]['duration'] / 1000.))
for s in soft: print('  note   ' + s)
for s in failed[:60]: print('  failed ' + s)
if len(failed) > 60: print('  failed ... and %d more' % (len(failed) - 60))
print('seconds by group: ' + ' '.join('%s:%.1f' % (g, times[g]) for g in sorted(times, key=int)) + ' wall:%.1f' % took)
print('cases %d ok %d nonstrict %d failed %d informational %d'
      % (len(want), n['ok'], n['nonstrict'], n['failed'], n['informational']))
sys.exit(1 if failed else 0)
PYEOF
