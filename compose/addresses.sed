# Turns the files of ../envoy and ../nginx, where everything is on loopback, into those of compose.yaml, where each
# thing has a name. The proxies themselves listen for their clients; Envoy's admin interface stays on loopback.

# nginx
s/\blisten 127\.0\.0\.1:8080\b/listen 8080/
s/\bserver 127\.0\.0\.1:900([24])\b/server extauthz:900\1/
s/\bserver 127\.0\.0\.1:8000\b/server upstream:8000/

# Envoy; a cluster with names asks for their addresses.
s/\baddress: 127\.0\.0\.1, port_value: 10000\b/address: 0.0.0.0, port_value: 10000/
s/\baddress: 127\.0\.0\.1, port_value: 900([14])\b/address: extauthz, port_value: 900\1/
s/\baddress: 127\.0\.0\.1, port_value: 8000\b/address: upstream, port_value: 8000/
s/^( *)load_assignment:$/\1type: STRICT_DNS\n&/
