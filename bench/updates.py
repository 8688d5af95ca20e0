#!/usr/bin/env python3
"""updates.py certdir|knot|bind|pdns-lmdb|pdns-sqlite [--n 200] [--data DIR]
   updates.py rfc2136 --addr A --port P           any running server that takes unsigned RFC 2136

Sequential updates, each replacing one SMIMEA RRset of the signed zone; for each: time from the
submission to the reply, and to the first signed answer over UDP that holds the new certificate.
"""
import argparse, json, os, shutil, socket, struct, subprocess, sys, time, urllib.request
import dnsbench as b

BD, Z = b.BD, b.Z

def wire(name): return b"".join(bytes([len(l)]) + l.encode() for l in name.rstrip(".").split(".")) + b"\0"

def recvn(s, n):
    o = b""
    while len(o) < n:
        x = s.recv(n - len(o))
        if not x: raise OSError("closed")
        o += x
    return o

class Rfc2136:
    def __init__(self, addr, port): self.a = (addr, port); self.s = None
    def submit(self, owner, der):
        o = wire(owner)
        rd = b"\3\0\0" + der
        m = (struct.pack(">HHHHHH", 77, 5 << 11, 1, 0, 2, 0) + wire(Z) + struct.pack(">HH", 6, 1)
             + o + struct.pack(">HHIH", 53, 255, 0, 0) + o + struct.pack(">HHIH", 53, 1, 3600, len(rd)) + rd)
        for i in (0, 1):
            try:
                if not self.s: self.s = socket.create_connection(self.a); self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.s.sendall(struct.pack(">H", len(m)) + m)
                r = recvn(self.s, struct.unpack(">H", recvn(self.s, 2))[0]); break
            except OSError:
                self.s = None
                if i: raise
        if r[3] & 15: raise SystemExit(f"update rcode {r[3] & 15}")

class CertdirApi:
    """One publication a request, over one connection, with a token."""
    def __init__(self, data):
        import http.client
        folder = b.certdir_data(data)
        out = subprocess.run([b.CERTDIR, "--data", folder, "--json", "token", "add", "--role", "publisher", "--domain", Z], check=True, capture_output=True)
        self.token = json.loads(out.stdout)["token"]
        self.c = http.client.HTTPConnection("127.0.0.1", 5380)
    def submit(self, owner, der):
        self.c.request("POST", "/v1/certificates", der, {"Authorization": "Bearer " + self.token, "Content-Type": "application/pkix-cert"})
        r = self.c.getresponse(); body = r.read()
        if r.status != 200: raise SystemExit(f"publish: {r.status} {body[:300]}")
        if r.getheader("Connection") == "close": self.c.close()

class PdnsApi:
    def submit(self, owner, der):
        body = json.dumps({"rrsets": [{"name": owner, "type": "SMIMEA", "ttl": 3600, "changetype": "REPLACE",
                           "records": [{"content": "3 0 0 " + der.hex(), "disabled": False}]}]}).encode()
        q = urllib.request.Request(f"http://127.0.0.1:5381/api/v1/servers/localhost/zones/{Z}.", body, {"X-API-Key": "bench", "Content-Type": "application/json"}, method="PATCH")
        urllib.request.urlopen(q).read()

def visible(owner, der, addr, port, limit=30):
    t = time.perf_counter(); polls = 0
    while time.perf_counter() - t < limit:
        r = b.query(owner, 53, port, addr, 1.0); polls += 1
        if r and der in r and struct.unpack(">H", r[6:8])[0] >= 2: return True
        time.sleep(0.0002)
    return False

def knot(d, data):
    shutil.copy(f"{data}/{Z}.zone", f"{d}/{Z}.zone")
    open(f"{d}/knot.conf", "w").write(f"""
server:
    rundir: "{d}"
    listen: 127.0.0.1@{b.PORT}
    udp-workers: 1
    tcp-workers: 1
    udp-max-payload: 4096
log:
  - target: stderr
    any: warning
database:
    storage: "{d}"
policy:
  - id: p
    algorithm: ecdsap256sha256
    nsec3: on
    nsec3-iterations: 0
    nsec3-salt-length: 0
    signing-threads: 2
acl:
  - id: u
    address: 127.0.0.1
    action: update
zone:
  - domain: {Z}
    storage: "{d}"
    file: {Z}.zone
    dnssec-signing: on
    dnssec-policy: p
    acl: u
    zonefile-sync: -1
    journal-content: changes
    semantic-checks: off
""")
    return ["knotd", "-c", f"{d}/knot.conf"]

def bind(d, data):
    shutil.copy(f"{data}/{Z}.zone.signed", f"{d}/{Z}.zone")
    open(f"{d}/named.conf", "w").write(f"""
options {{ directory "{d}"; pid-file none; session-keyfile "{d}/session.key"; managed-keys-directory "{d}";
  listen-on port {b.PORT} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; max-udp-size 4096; minimal-responses yes;
  dnssec-validation no; notify no; }};
controls {{ }};
zone "{Z}" {{ type primary; file "{d}/{Z}.zone"; key-directory "{data}/keys"; auto-dnssec maintain; allow-update {{ any; }}; }};
""")
    return ["named", "-g", "-n", "1", "-c", f"{d}/named.conf", "-d", "0"]

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("name"); ap.add_argument("--n", type=int, default=200); ap.add_argument("--data", default=f"{BD}/d100k")
    ap.add_argument("--addr", default="127.0.0.1"); ap.add_argument("--port", type=int, default=b.PORT)
    ap.add_argument("--cpus", default="0")
    ap.add_argument("--no-rectify", action="store_true", help="pdns: API-RECTIFY 0 (the API else rectifies the whole zone on each change)")
    a = ap.parse_args()
    rows = [l.rstrip("\n").split("\t") for l in open(f"{a.data}/upd.tsv")]
    p = None
    rest = a.n if not a.name.startswith("pdns") or a.no_rectify else 0
    if a.name.startswith("pdns") and a.no_rectify:
        b.sh(f"pdnsutil --config-dir={BD}/{a.name} set-meta {Z} API-RECTIFY 0")
    d = f"{BD}/run/upd-{a.name}"
    if a.name != "rfc2136": shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
    if a.name == "knot": cmd = knot(d, a.data)
    elif a.name == "bind": cmd = bind(d, a.data)
    elif a.name == "certdir": cmd = b.SERVERS["certdir"][0](d, a.data, 1)
    elif a.name.startswith("pdns"): cmd = b.SERVERS[a.name][0](d, a.data, 1)
    t = time.time()
    if a.name != "rfc2136":
        p = subprocess.Popen(["taskset", "-c", a.cpus] + cmd, stdout=open(f"{d}/out", "w"), stderr=subprocess.STDOUT)
        while time.time() - t < 300:
            r = b.query(rows[0][1], 53, b.PORT)
            if b.good(r) and struct.unpack(">H", r[6:8])[0] >= 2: break
            time.sleep(0.05)
        print(f"{a.name}: signed answer after {time.time()-t:.2f} s", flush=True); time.sleep(2)
    os.sched_setaffinity(0, {1})
    sub = CertdirApi(a.data) if a.name == "certdir" else PdnsApi() if a.name.startswith("pdns") else Rfc2136(a.addr, a.port)
    try:
        rep, vis, late, t0 = [], [], 0, time.perf_counter()
        for m, o, h in rows[:a.n]:
            der = bytes.fromhex(h); t1 = time.perf_counter(); sub.submit(o, der); t2 = time.perf_counter()
            if not visible(o, der, a.addr, a.port): late += 1
            t3 = time.perf_counter(); rep.append(t2 - t1); vis.append(t3 - t1)
        el = time.perf_counter() - t0
        t0 = time.perf_counter()
        for m, o, h in rows[a.n:a.n + rest]: sub.submit(o, bytes.fromhex(h))
        el2 = time.perf_counter() - t0
        rep.sort(); vis.sort(); q = lambda v, f: round(v[int(len(v) * f)] * 1e3, 2)
        pids = b.tree(p.pid) if p else []
        line = {"server": a.name + (" API-RECTIFY 0" if a.no_rectify else ""), "what": "updates", "n": a.n, "reply_p50_ms": q(rep, .5), "reply_p99_ms": q(rep, .99), "visible_p50_ms": q(vis, .5),
                "visible_p99_ms": q(vis, .99), "never_visible_30s": late, "updates_per_s_with_check": round(a.n / el, 1), "updates_per_s_submit_only": round(rest / el2, 1) if rest else None, "rss_mb": b.rss(pids)}
        print(json.dumps(line)); open(f"{BD}/results.jsonl", "a").write(json.dumps(line) + "\n")
    finally:
        if p: b.stop(p)

if __name__ == "__main__": main()
