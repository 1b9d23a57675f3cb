#!/bin/sh
# `make chart-test`: the chart is valid, scores well, renders what its tests expect, and its
# alerts fire. Arguments are for pytest.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

# The oldest that Chart.yaml accepts and the newest that there are schemas for.
kubernetes_versions="1.25 1.37"
newest="--kube-version 1.37"
manifests=build/chart
kube_score="go run github.com/zegl/kube-score/cmd/kube-score@v1.20.0"
promtool="go run github.com/prometheus/prometheus/cmd/promtool@v0.316.0"

# `go run` refuses a module that replaces another one; a module around it may.
mkdir -p build/helm-unittest $manifests
cat >build/helm-unittest/go.mod <<EOF
module tools
go 1.24.0
require github.com/helm-unittest/helm-unittest v1.1.2
replace github.com/vmware-labs/yaml-jsonpath v0.3.2 => github.com/helm-unittest/yaml-jsonpath v0.4.0
EOF
helm_unittest="go run -C build/helm-unittest -mod=mod github.com/helm-unittest/helm-unittest/cmd/helm-unittest"

python -m helm --check
for values in helm/bridge/ci/*.yaml; do
    helm lint --strict --quiet $newest helm/bridge --values "$values"
    helm template $newest bridge helm/bridge --values "$values" >"$manifests/${values##*/}"
done
pytest tests/helm "$@"
$helm_unittest --strict "$PWD/helm/bridge"
for version in $kubernetes_versions; do
    kubernetes-validate --strict --quiet --no-warn --kubernetes-version "$version" $manifests/*.yaml
done

# What is ignored, and why:
# - CPU limit: a throttled process answers pings late, and is disconnected.
# - Always pulling: a tag of this chart's is a version and doesn't move; a digest can't.
# - ephemeral storage: its limit counts the pod's log and, without persistence, the outbox;
#   only the cluster's owner knows what it may use (resources).
# - network policy: it depends on the cluster's network (networkPolicy.enabled);
#   everything.yaml has it, but not for the pod of helm test.
# - a Deployment's replicas and strategy: two bridges would publish every event twice.
$kube_score score --ignore-container-cpu-limit \
    --ignore-test container-image-pull-policy \
    --ignore-test container-ephemeral-storage-request-and-limit \
    --ignore-test pod-networkpolicy \
    --ignore-test deployment-replicas \
    --ignore-test deployment-strategy \
    $manifests/*.yaml
$promtool check rules --lint=all --lint-fatal helm/bridge/files/rules.yaml
$promtool test rules tests/helm/alerts.yaml
