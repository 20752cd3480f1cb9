// Program operator makes a pod of each App: no manifest of the App's says what runs.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

type object = map[string]any

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	for ctx.Err() == nil {
		if err := reconcile(); err != nil {
			log.Print(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func reconcile() error {
	var apps struct {
		Items []struct {
			Metadata struct{ Name, Namespace, UID string }
			Spec     struct{ Image string }
		}
	}
	if err := call("GET", "/apis/x.example/v1/apps", nil, &apps); err != nil {
		return err
	}
	for _, app := range apps.Items {
		owner := object{
			"apiVersion": "x.example/v1", "kind": "App", "controller": true,
			"name": app.Metadata.Name, "uid": app.Metadata.UID,
		}
		probe := object{"httpGet": object{"path": "/ready", "port": 8080}, "periodSeconds": 1}
		pod := object{
			"apiVersion": "v1", "kind": "Pod",
			"metadata": object{
				"name":            app.Metadata.Name + "-0",
				"labels":          object{"app": app.Metadata.Name},
				"ownerReferences": []object{owner},
			},
			"spec": object{"containers": []object{{
				"name": "app", "image": app.Spec.Image, "readinessProbe": probe,
			}}},
		}
		path := fmt.Sprintf("/api/v1/namespaces/%s/pods", app.Metadata.Namespace)
		err := call("POST", path, pod, nil) // mark: make
		if err != nil && !strings.Contains(err.Error(), "409") {
			return err
		}
	}
	return nil
}

func call(method, path string, in, out any) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, "https://kubernetes.default.svc"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}
