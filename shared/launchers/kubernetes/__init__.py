"""Jobs as Kubernetes Jobs: `KubernetesLauncher` and what it is made of. Only `api` needs the `kubernetes` package."""
