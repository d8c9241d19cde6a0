#!/bin/sh
# Applies an overlay in order: everything but the services, the migration to its end, then the services, one after the
# other, waiting for each.
#
#   deploy/k8s/rollout.sh production
set -eu
overlay=$(dirname "$0")/overlays/$1
built=$(mktemp)
trap 'rm -f "$built"' EXIT
kubectl kustomize "$overlay" >"$built"

services='app.kubernetes.io/name in (gateway, agent, conversation)'
others='app.kubernetes.io/name notin (gateway, agent, conversation)'

# A job cannot be changed, only made anew.
kubectl --namespace logue delete job --selector app.kubernetes.io/part-of=logue --ignore-not-found
kubectl apply --filename "$built" --selector "$others"
kubectl --namespace logue wait job/migration --for condition=complete --timeout 3600s
kubectl apply --filename "$built" --selector "$services"
# Pods are replaced one by one: 16 agents may take two minutes each (to start, to own their partitions, minReadySeconds,
# the old one's drain). One that gets nowhere ends this sooner, by its progressDeadlineSeconds (ten minutes).
for service in conversation agent gateway; do
    kubectl --namespace logue rollout status "deployment/$service" --timeout 3600s
done
