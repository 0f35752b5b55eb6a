//go:build e2e

package e2e

import "fmt"

// deployment returns a Deployment of go-ok whose pods listen on 8080, under
// the port name http.
func deployment(namespace, name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec: %[4]s`, namespace, name, replicas, podSpec(8080))
}

// statefulSet returns a StatefulSet of go-ok whose pods listen on 5432, under
// the port name http.
func statefulSet(namespace, name string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  serviceName: %[2]s
  podManagementPolicy: Parallel
  replicas: %[3]d
  selector: {matchLabels: {app: %[2]s}}
  template:
    metadata: {labels: {app: %[2]s}}
    spec: %[4]s`, namespace, name, replicas, podSpec(5432))
}

func podSpec(port int) string {
	return fmt.Sprintf(`{automountServiceAccountToken: false, terminationGracePeriodSeconds: 1, containers: [{
      name: go-ok, image: "kubeshore.test/go-ok:1", imagePullPolicy: IfNotPresent,
      env: [{name: PORT, value: "%[1]d"}], ports: [{name: http, containerPort: %[1]d}],
      readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}}]}`, port)
}

// service returns a Service that selects the label app=name and forwards port
// to the pods' port http. clusterIP is "" or "None".
func service(namespace, name string, port int, clusterIP string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec: {clusterIP: %[4]q, selector: {app: %[2]s}, ports: [{name: http, port: %[3]d, targetPort: http}]}`, namespace, name, port, clusterIP)
}
