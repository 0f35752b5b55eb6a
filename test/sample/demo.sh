#!/usr/bin/env bash
# Applies the sample application to the cluster of the given kubeconfig, runs
# `kubeshore up`, and sends a request to each service by name, as a program
# would. In a terminal it then keeps running until Ctrl-C. Without a terminal,
# or with CI=true, it exits, with status 0 only if every response was right.
set -euo pipefail
cd "$(dirname "$0")/../.."
export KUBECONFIG=$1
KUBECACHEDIR=$(mktemp -d)
export KUBECACHEDIR
kubeshore=

finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  if [ -n "$kubeshore" ]; then
    kill -TERM "$kubeshore" 2>/dev/null || true
    wait "$kubeshore" || status=$?
  fi
  rm -rf "$KUBECACHEDIR"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

command -v curl >/dev/null || { apt-get update -q && apt-get install -q -y --no-install-recommends curl; }

fail() {
  echo "demo: $*" >&2
  exit 1
}

# request URL WORD...: prints the request and the response, which must contain every word.
request() {
  local url=$1 response
  shift
  printf '\n$ curl %s\n' "$url"
  response=$(curl --silent --show-error --max-time 10 --noproxy '*' "$url") || fail "$url: no response"
  echo "$response"
  for word; do
    [[ $response == *"$word"* ]] || fail "$url: response does not contain $word"
  done
}

echo "--- sample application: a Deployment in namespace shop, a StatefulSet in namespace data"
bin/kubectl apply -f test/sample/sample.yaml
bin/kubectl --namespace=shop rollout status deployment/go-ok --timeout=120s
bin/kubectl --namespace=data rollout status statefulset/db --timeout=120s

echo
echo "--- kubeshore up -n shop,data"
bin/kubeshore up -n shop,data &
kubeshore=$!
deadline=$((SECONDS + 30))
until getent hosts db-1.db.data >/dev/null; do
  kill -0 "$kubeshore" 2>/dev/null || fail "kubeshore exited"
  [ "$SECONDS" -lt "$deadline" ] || fail "names do not resolve after 30 s"
  sleep 0.1
done

ok='"message":"ok"'
request http://go-ok "$ok" '"port":"8080"'
request http://go-ok.shop "$ok" '"port":"8080"'
request http://go-ok.shop.svc.cluster.local "$ok" '"port":"8080"'
request http://db.data:5432 "$ok" '"port":"5432"'
request http://db-0.db.data:5432 "$ok" '"pod":"db-0"'
request http://db-1.db.data.svc.cluster.local:5432 "$ok" '"pod":"db-1"'
echo
echo "demo: all responses were right"

if [ -t 0 ] && [ -t 1 ] && [ "${CI:-}" != true ]; then
  cat <<T

--- Running until Ctrl-C. In another terminal:
  curl http://go-ok.shop
  export KUBECONFIG=$KUBECONFIG
  $PWD/bin/kubectl -n shop scale deployment/go-ok --replicas=4
Afterwards, make cluster-down stops the cluster.
T
  trap : INT # the terminal also sends it to kubeshore, which exits
  until wait "$kubeshore" || ! kill -0 "$kubeshore" 2>/dev/null; do :; done
fi
