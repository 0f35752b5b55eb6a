package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// fakeAPI is an API server with many Services and one EndpointSlice for each.
// They never change. It counts the requests.
type fakeAPI struct {
	server     *httptest.Server
	kubeconfig string
	n          int
	lists      map[string][]byte // by resource
	requests   atomic.Int64
}

const fakeNamespace = "many"

// newFakeAPI starts a fakeAPI with n Services and writes its kubeconfig to
// path.
func newFakeAPI(path string, n int) (*fakeAPI, error) {
	f := &fakeAPI{kubeconfig: path, n: n, lists: make(map[string][]byte)}
	services := corev1.ServiceList{TypeMeta: metav1.TypeMeta{Kind: "ServiceList", APIVersion: "v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
	endpointSlices := discoveryv1.EndpointSliceList{
		TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"},
	}
	port, name, ready := int32(8080), "http", true
	for i := range n {
		meta := metav1.ObjectMeta{Namespace: fakeNamespace, Name: fmt.Sprintf("svc-%d", i), UID: types.UID(fmt.Sprint("uid-", i)), ResourceVersion: "1"}
		services.Items = append(services.Items, corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", Selector: map[string]string{"app": meta.Name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		}})
		slice := discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
		for k := range 2 {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: fakeNamespace, Name: fmt.Sprintf("%s-%d", meta.Name, k), UID: types.UID(fmt.Sprintf("pod-%d-%d", i, k))},
			})
		}
		endpointSlices.Items = append(endpointSlices.Items, slice)
	}
	for resource, list := range map[string]any{"services": services, "endpointslices": endpointSlices} {
		var err error
		if f.lists[resource], err = json.Marshal(list); err != nil {
			return nil, fmt.Errorf("bench: encode services: %w", err)
		}
	}
	f.server = httptest.NewUnstartedServer(f)
	f.server.EnableHTTP2 = true
	f.server.StartTLS()
	config := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"fake": {Server: f.server.URL, InsecureSkipTLSVerify: true}},
		Contexts:       map[string]*clientcmdapi.Context{"fake": {Cluster: "fake", AuthInfo: "fake", Namespace: fakeNamespace}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"fake": {Token: "fake"}},
		CurrentContext: "fake",
	}
	return f, writeKubeconfig(&config, path)
}

func (f *fakeAPI) serviceSet() serviceSet {
	return serviceSet{kubeconfig: f.kubeconfig, namespace: fakeNamespace, services: f.n, ports: []uint16{80}}
}

func (f *fakeAPI) close() {
	f.server.CloseClientConnections() // watches never end on their own
	f.server.Close()
	_ = os.Remove(f.kubeconfig)
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	resource := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	list, ok := f.lists[resource]
	query := r.URL.Query()
	switch {
	case !ok:
		http.NotFound(w, r)
	case query.Get("sendInitialEvents") != "": // like servers before 1.32
		http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"no"}`, http.StatusUnprocessableEntity)
	case query.Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(list)
	}
}
