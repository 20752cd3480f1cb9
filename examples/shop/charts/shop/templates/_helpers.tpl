{{- define "shop.secure" -}}
runAsNonRoot: true
runAsUser: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "shop.stock" -}}
- name: inventory
  image: "{{ .Values.registry }}/inventory:{{ .Values.tag }}"
  env: [{name: STOCK, value: /etc/shop/stock.json}]
  volumeMounts: [{name: stock, mountPath: /etc/shop}]
{{- end }}
