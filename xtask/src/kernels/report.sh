# Prints what works on the kernel that runs this: report.sh TCPWATCH SUITE. `results.rs` reads it.
TCPWATCH_BIN=$1
TCPWATCH_VERIFIER_STATS=$(mktemp)
export TCPWATCH_BIN TCPWATCH_VERIFIER_STATS
echo "release $(uname -r)"
echo features
"$1" --version -v -o json
echo suite
"$2" matrix:: --test-threads=1
passed=$?
echo verifier
cat "$TCPWATCH_VERIFIER_STATS"
rm "$TCPWATCH_VERIFIER_STATS"
echo "exit $passed"
