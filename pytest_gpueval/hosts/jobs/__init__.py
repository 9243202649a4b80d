"""Runs as Indexed Jobs of a Kubernetes cluster: a pod for each shard, started, run again and counted by the cluster."""
