#!/usr/bin/env bash
# Applies the sample application to the cluster of the kubeconfig given, runs
# `kubeshore up`, and asks each of its services by name, as a program would.
# In a terminal it then stays up until Ctrl-C; without one, or with CI=true, it
# ends, with status 0 only if every answer was right.
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

# ask URL WORD...: prints question and answer; every word must be in the answer.
ask() {
  local url=$1 answer
  shift
  printf '\n$ curl %s\n' "$url"
  answer=$(curl --silent --show-error --max-time 10 --noproxy '*' "$url") || fail "$url: no answer"
  echo "$answer"
  for word; do
    [[ $answer == *"$word"* ]] || fail "$url: no $word in the answer"
  done
}

echo "--- the sample application: a Deployment in namespace shop, a StatefulSet in namespace data"
bin/kubectl apply -f test/sample/sample.yaml
bin/kubectl --namespace=shop rollout status deployment/go-ok --timeout=120s
bin/kubectl --namespace=data rollout status statefulset/db --timeout=120s

echo
echo "--- kubeshore up -n shop,data"
bin/kubeshore up -n shop,data &
kubeshore=$!
deadline=$((SECONDS + 30))
until getent hosts db-1.db.data >/dev/null; do
  kill -0 "$kubeshore" 2>/dev/null || fail "kubeshore ended"
  [ "$SECONDS" -lt "$deadline" ] || fail "no names after 30 s"
  sleep 0.1
done

ok='"message":"ok"'
ask http://go-ok "$ok" '"port":"8080"'
ask http://go-ok.shop "$ok" '"port":"8080"'
ask http://go-ok.shop.svc.cluster.local "$ok" '"port":"8080"'
ask http://db.data:5432 "$ok" '"port":"5432"'
ask http://db-0.db.data:5432 "$ok" '"pod":"db-0"'
ask http://db-1.db.data.svc.cluster.local:5432 "$ok" '"pod":"db-1"'
echo
echo "demo: every answer was right"

if [ -t 0 ] && [ -t 1 ] && [ "${CI:-}" != true ]; then
  cat <<T

--- It stays up until Ctrl-C. In another terminal:
  curl http://go-ok.shop
  export KUBECONFIG=$KUBECONFIG
  $PWD/bin/kubectl -n shop scale deployment/go-ok --replicas=4
Afterwards, make cluster-down ends the cluster.
T
  trap : INT # kubeshore has it from the terminal too, and ends
  until wait "$kubeshore" || ! kill -0 "$kubeshore" 2>/dev/null; do :; done
fi
