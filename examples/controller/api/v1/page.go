// Package v1 is the API of pages.
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of all kinds here.
var GroupVersion = schema.GroupVersion{Group: "web.example.com", Version: "v1"}

// Page is a text to be served: the controller keeps a ConfigMap of its HTML.
type Page struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PageSpec   `json:"spec,omitempty"`
	Status PageStatus `json:"status,omitempty"`
}

// PageSpec says what is wanted.
type PageSpec struct {
	Title string `json:"title"`
	Text  string `json:"text,omitempty"`
	// TTLSeconds is how long the page lives; 0: until it is deleted.
	TTLSeconds int64 `json:"ttlSeconds,omitempty"`
}

// PageStatus says what is there.
type PageStatus struct {
	// Phase is Ready or Invalid.
	Phase              string `json:"phase,omitempty"`
	Reason             string `json:"reason,omitempty"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

// PageList is a list of pages.
type PageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Page `json:"items"`
}

// AddToScheme makes the kinds known.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Page{}, &PageList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

// DeepCopyObject is what a runtime.Object needs.
func (p *Page) DeepCopyObject() runtime.Object {
	return p.copy()
}

// DeepCopyObject is what a runtime.Object needs.
func (l *PageList) DeepCopyObject() runtime.Object {
	out := &PageList{TypeMeta: l.TypeMeta, Items: make([]Page, len(l.Items))}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items[i] = *l.Items[i].copy()
	}
	return out
}

func (p *Page) copy() *Page {
	out := &Page{TypeMeta: p.TypeMeta, Spec: p.Spec, Status: p.Status}
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return out
}
