// Package pages keeps the ConfigMaps of pages as they should be.
package pages

import (
	"context"
	"fmt"
	"html"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	v1 "example.com/pages/api/v1"
)

const longest = 60 // characters of a title

// Reconciler makes a page's ConfigMap.
type Reconciler struct {
	client.Client
}

// SetupWithManager has it called when a page or its ConfigMap changes.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).For(&v1.Page{}).Owns(&corev1.ConfigMap{}).Complete(r)
}

// Reconcile is called for each page that may not be as it should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var page v1.Page
	if err := r.Get(ctx, req.NamespacedName, &page); err != nil {
		// It is gone, and its ConfigMap goes with it.
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if reason := invalid(&page); reason != "" {
		return ctrl.Result{}, r.say(ctx, &page, "Invalid", reason)
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: page.Name + "-page", Namespace: page.Namespace,
	}}
	_, err := controllerutil.CreateOrUpdate(ctx, r.Client, config, func() error {
		config.Data = map[string]string{"index.html": render(&page)}
		return controllerutil.SetControllerReference(&page, config, r.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("page %s: %w", req, err)
	}
	return ctrl.Result{}, r.say(ctx, &page, "Ready", "")
}

func (r *Reconciler) say(ctx context.Context, page *v1.Page, phase, reason string) error {
	status := v1.PageStatus{Phase: phase, Reason: reason, ObservedGeneration: page.Generation}
	if page.Status == status {
		return nil
	}
	page.Status = status
	return client.IgnoreNotFound(r.Status().Update(ctx, page))
}

func invalid(page *v1.Page) string {
	if n := len([]rune(page.Spec.Title)); n > longest {
		return fmt.Sprintf("the title has %d characters, more than %d", n, longest)
	}
	if page.Spec.TTLSeconds < 0 {
		return "ttlSeconds is negative"
	}
	return ""
}

func render(page *v1.Page) string {
	text := page.Spec.Text
	if text == "" {
		text = "Nothing here yet."
	}
	return fmt.Sprintf("<h1>%s</h1>\n<p>%s</p>\n",
		html.EscapeString(page.Spec.Title), html.EscapeString(text))
}
