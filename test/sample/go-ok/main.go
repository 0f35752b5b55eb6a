// Command go-ok is the sample application: an HTTP server that answers every
// request with the name of its pod. It listens on PORT (8080 if unset).
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// response is the body of every response: the message "ok", the name of the
// pod, and the port it listens on.
type response struct {
	Message string `json:"message"`
	Pod     string `json:"pod"`
	Port    string `json:"port"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, cmp.Or(os.Getenv("PORT"), "8080"))
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, port string) error {
	pod, err := os.Hostname() // in a pod, the host name is the pod's name
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              ":" + port,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(response{Message: "ok", Pod: pod, Port: port}); err != nil {
				log.Print(err)
			}
		}),
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	log.Printf("%q is listening on port %q", pod, port)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
