#!/usr/bin/env python3
"""dnsbench.py: start one authoritative server pinned to one core, load it, write a JSON line.

  dnsbench.py run certdir|knot|nsd|bind|pdns-lmdb|pdns-sqlite|udpecho|udpserve [--data DIR] [--quick]
  dnsbench.py load NAME --addr A --port P [--pid PID] [--tls-port P] [--data DIR]   any other server
     (the server under test must already run and hold the zone made from DIR/certs.pem)

Results are appended to $BENCH_DIR/results.jsonl. Core 0: server, core 1: generator ("pinned");
"2core": both free on both cores, server with two workers.
"""
import argparse, json, os, re, shutil, signal, socket, statistics, struct, subprocess, sys, time

BD = os.environ.get("BENCH_DIR", "/tmp/bench")
Z = "bench.example"
HERE = os.path.dirname(os.path.abspath(__file__))
PORT, TLSPORT = 5301, 5853
ENV = dict(os.environ)

def sh(cmd, **k): return subprocess.run(cmd, shell=True, text=True, capture_output=True, **k)

def query(name, qtype, port, addr="127.0.0.1", timeout=0.25, do=True, edns=4096):
    p = struct.pack(">HHHHHH", 4660, 0, 1, 0, 0, 1)
    for l in name.rstrip(".").split("."): p += bytes([len(l)]) + l.encode()
    p += b"\0" + struct.pack(">HH", qtype, 1) + b"\0" + struct.pack(">HHIH", 41, edns, 0x8000 if do else 0, 0)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(timeout)
    try:
        s.sendto(p, (addr, port)); return s.recv(65535)
    except OSError: return None
    finally: s.close()

def good(r): return r and r[3] & 15 == 0 and struct.unpack(">H", r[6:8])[0] > 0

def rss(pids):
    t = 0
    for p in pids:
        try:
            for l in open(f"/proc/{p}/smaps_rollup"):
                if l.startswith("Pss:"): t += int(l.split()[1])
        except OSError: pass
    return t // 1024

def tree(pid):
    out = [pid]
    for c in sh(f"pgrep -P {pid}").stdout.split(): out += tree(int(c))
    return out

def cpu(pids):
    t = 0
    for p in pids:
        try: f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split(); t += int(f[11]) + int(f[12])
        except OSError: pass
    return t / os.sysconf("SC_CLK_TCK")

# ---- servers: each returns (command, workdir); zone file = data/bench.example.zone.signed
def conf_knot(d, data, workers):
    open(f"{d}/knot.conf", "w").write(f"""
server:
    rundir: "{d}"
    listen: 127.0.0.1@{PORT}
    udp-workers: {workers}
    tcp-workers: {workers}
    background-workers: {workers}
    udp-max-payload: 4096
    tcp-idle-timeout: 60
log:
  - target: stderr
    any: warning
database:
    storage: "{d}"
template:
  - id: default
    storage: "{d}"
    zonefile-load: whole
    semantic-checks: off
    journal-content: none
    zonefile-sync: -1
zone:
  - domain: {Z}
    file: "{data}/{Z}.zone.signed"
""")
    return ["knotd", "-c", f"{d}/knot.conf"]

def conf_nsd(d, data, workers):
    open(f"{d}/nsd.conf", "w").write(f"""
server:
    ip-address: 127.0.0.1@{PORT}
    ip-address: 127.0.0.1@{TLSPORT}
    tls-port: {TLSPORT}
    tls-service-key: "{BD}/tls/key.pem"
    tls-service-pem: "{BD}/tls/cert.pem"
    server-count: {workers}
    ipv4-edns-size: 4096
    rrl-ratelimit: 0
    tcp-count: 1000
    tcp-query-count: 0
    minimal-responses: yes
    username: ""
    chroot: ""
    zonesdir: "{d}"
    database: ""
    zonelistfile: "{d}/zone.list"
    xfrdfile: "{d}/xfrd.state"
    xfrdir: "{d}"
    pidfile: ""
    logfile: "{d}/log"
    verbosity: 0
remote-control:
    control-enable: no
zone:
    name: {Z}
    zonefile: "{data}/{Z}.zone.signed"
""")
    return ["nsd", "-d", "-c", f"{d}/nsd.conf"]

def conf_bind(d, data, workers):
    open(f"{d}/named.conf", "w").write(f"""
tls t {{ key-file "{BD}/tls/key.pem"; cert-file "{BD}/tls/cert.pem"; }};
options {{
    directory "{d}"; pid-file none; session-keyfile "{d}/session.key"; managed-keys-directory "{d}";
    listen-on port {PORT} {{ 127.0.0.1; }};
    listen-on port {TLSPORT} tls t {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no; max-udp-size 4096; edns-udp-size 4096; minimal-responses yes; querylog no; tcp-clients 1000;
    dnssec-validation no; notify no; check-names primary ignore; zone-statistics none; allow-transfer {{ any; }};
}};
controls {{ }};
zone "{Z}" {{ type primary; file "{data}/{Z}.zone.signed"; }};
""")
    return ["named", "-g", "-n", str(workers), "-c", f"{d}/named.conf", "-d", "0"]

def conf_pdns(kind):
    def f(d, data, workers):
        back = (f"launch=lmdb\nlmdb-filename={BD}/pdns-lmdb/pdns.lmdb\nlmdb-map-size=8000\n" if kind == "lmdb"
                else f"launch=gsqlite3\ngsqlite3-database={BD}/pdns-sqlite/pdns.sqlite3\ngsqlite3-dnssec=yes\ngsqlite3-pragma-journal-mode=WAL\n")
        open(f"{d}/pdns.conf", "w").write(back + f"""
local-address=127.0.0.1
local-port={PORT}
receiver-threads={workers}
distributor-threads=1
signing-threads={workers}
udp-truncation-threshold=4096
socket-dir={d}
daemon=no
guardian=no
loglevel=3
api=yes
api-key=bench
webserver=yes
webserver-port=5381
webserver-address=127.0.0.1
edns-subnet-processing=no
version-string=anonymous
max-tcp-connections=1000
max-tcp-connections-per-client=0
max-tcp-transactions-per-conn=0
zone-cache-refresh-interval=300
security-poll-suffix=
""" + ("cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n" if os.environ.get("PDNS_NOCACHE") else ""))
        return ["pdns_server", f"--config-dir={d}"]
    return f

CERTDIR = os.environ.get("CERTDIR", os.path.join(HERE, "..", "target", "release", "certdir"))

def certdir_data(data):
    """A data folder with the population published; made once."""
    d = f"{data}/certdir"
    if not os.path.exists(d):
        subprocess.run([CERTDIR, "--data", d, "domain", "add", Z, "--hosting", "smimecert", "--ttl", "3600"], check=True, stdout=subprocess.DEVNULL)
        t = time.time()
        subprocess.run([CERTDIR, "--data", d, "publish", f"{data}/certs.pem"], check=True, stdout=subprocess.DEVNULL)
        print(f"published in {time.time() - t:.1f} s", flush=True)
    return d

def conf_certdir(d, data, workers):
    return [CERTDIR, "--data", certdir_data(data), "serve", "--dns", f"127.0.0.1:{PORT}", "--dns-workers", str(workers),
            "--udp-payload", "4096", "--ldap", "127.0.0.1:5390", "--http", "127.0.0.1:5380",
            "--lookups-per-second", "1000000", "--lookups-burst", "1000000"]

def conf_udpserve(d, data, workers): return [f"{BD}/bin/udpserve", str(PORT), f"{data}/users.tsv"]
def conf_udpecho(d, data, workers): return [f"{BD}/bin/udpecho", str(PORT), "1399"]

SERVERS = {"knot": (conf_knot, "udp tcp"), "nsd": (conf_nsd, "udp tcp dot"), "bind": (conf_bind, "udp tcp dot"),
           "pdns-lmdb": (conf_pdns("lmdb"), "udp tcp"), "pdns-sqlite": (conf_pdns("sqlite"), "udp tcp"),
           "certdir": (conf_certdir, "udp tcp"), "udpecho": (conf_udpecho, "udp"), "udpserve": (conf_udpserve, "udp")}

def start(name, data, workers, cpus):
    d = f"{BD}/run/{name}"; shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
    cmd = SERVERS[name][0](d, data, workers)
    t = time.time()
    p = subprocess.Popen(["taskset", "-c", cpus] + cmd, stdout=open(f"{d}/out", "w"), stderr=subprocess.STDOUT)
    own = open(f"{data}/users.tsv").readline().split("\t")[1]
    while time.time() - t < 600:
        if p.poll() is not None: sys.exit(f"{name} ended: " + open(f"{d}/out").read()[-2000:])
        r = query(own, 53, PORT)
        if good(r) or (name == "udpecho" and r): break
        time.sleep(0.05)
    else: sys.exit("no answer")
    return p, time.time() - t, len(r)

def stop(p):
    for q in reversed(tree(p.pid)):
        try: os.kill(q, signal.SIGTERM)
        except OSError: pass
    try: p.wait(20)
    except subprocess.TimeoutExpired:
        for q in reversed(tree(p.pid)):
            try: os.kill(q, signal.SIGKILL)
            except OSError: pass
        p.wait(10)
    time.sleep(0.5)

def dnsperf(addr, port, q, secs, mode="udp", cpus="1", conns=8, win=200, extra=""):
    o = sh(f"taskset -c {cpus} dnsperf -s {addr} -p {port} -d {q} -l {secs} -e -D -m {mode} -c {conns} -q {win} -T 1 -t 1 {extra}").stdout
    g = lambda r: (re.search(r, o) or [0, "0"])[1]
    return {"secs": float(g(r"Run time \(s\):\s+([\d.]+)")) or secs, "qps": float(g(r"Queries per second:\s+([\d.]+)")), "lat_avg_us": float(g(r"Average Latency \(s\):\s+([\d.]+)")) * 1e6,
            "lost": int(g(r"Queries lost:\s+(\d+)")), "rcodes": (re.search(r"Response codes:\s+(.*)", o) or ["", ""])[1],
            "resp_size": float(g(r"response (\d+)"))}

def blast(addr, port, q, secs, edns=4096, cpus="1", conns=4, win=200):
    o = sh(f"taskset -c {cpus} {BD}/bin/udpblast -s {addr} -p {port} -d {q} -l {secs} -b {edns} -c {conns} -q {win}")
    try: return {"secs": secs, **json.loads(o.stdout)}
    except ValueError: return {"qps": 0, "lat_avg_us": 0, "err": o.stderr[-200:]}

def med(name, what, fn, pids, reps, out):
    rs = []
    for _ in range(reps):
        c0, t0 = cpu(pids), time.time(); r = fn(); el = time.time() - t0
        # CPU over the time under load only (not the generator's start, nor its wait for lost answers)
        r["srv_cpu"] = round((cpu(pids) - c0) / r.pop("secs", el), 3)
        rs.append(r)
    q = statistics.median(r["qps"] for r in rs)
    m = min(rs, key=lambda r: abs(r["qps"] - q))
    line = {"server": name, "what": what, "qps": round(q), "all": [round(r["qps"]) for r in rs], "rss_mb": rss(pids), **{k: v for k, v in m.items() if k != "qps"}}
    print(json.dumps(line), flush=True); out.write(json.dumps(line) + "\n"); out.flush()

def matrix(name, addr, port, tlsport, pids, data, modes, secs, out, cpus="1", tag="pinned", only=None):
    q = lambda x: f"{data}/q-{x}.txt"
    M = [("udp-hit dnsperf", lambda: dnsperf(addr, port, q("hit"), secs, cpus=cpus), "udp"),
         ("udp-hit blast", lambda: blast(addr, port, q("hit"), secs * 0.4, cpus=cpus), "udp"),
         ("udp-hit-1232 blast", lambda: blast(addr, port, q("hit"), secs * 0.4, 1232, cpus=cpus), "udp"),
         ("tcp-hit dnsperf", lambda: dnsperf(addr, port, q("hit"), secs * 0.4, "tcp", cpus, 8, 200), "tcp"),
         ("dot-hit dnsperf", lambda: dnsperf(addr, tlsport, q("hit"), secs * 0.4, "dot", cpus, 8, 200), "dot"),
         ("udp-miss dnsperf", lambda: dnsperf(addr, port, q("miss"), secs * 0.4, cpus=cpus), "udp"),
         ("udp-miss blast", lambda: blast(addr, port, q("miss"), secs * 0.4, cpus=cpus), "udp"),
         ("udp-mix dnsperf", lambda: dnsperf(addr, port, q("mix"), secs * 0.4, cpus=cpus), "udp"),
         ("udp-mix blast", lambda: blast(addr, port, q("mix"), secs * 0.4, cpus=cpus), "udp")]
    for what, fn, mode in M:
        if mode not in modes.split(): continue
        if only and not re.search(only, what): continue
        med(name, f"{tag} {what}", fn, pids, 3, out)

def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("cmd", choices=["run", "load"]); ap.add_argument("name")
    ap.add_argument("--data", default=f"{BD}/d100k"); ap.add_argument("--secs", type=float, default=10)
    ap.add_argument("--addr", default="127.0.0.1"); ap.add_argument("--port", type=int, default=53)
    ap.add_argument("--tls-port", type=int, default=0); ap.add_argument("--pid", type=int, default=0)
    ap.add_argument("--only"); ap.add_argument("--skip2", action="store_true"); ap.add_argument("--tag", default="")
    a = ap.parse_args()
    out = open(f"{BD}/results.jsonl", "a")
    if a.cmd == "load":
        matrix(a.name, a.addr, a.port, a.tls_port, tree(a.pid) if a.pid else [], a.data,
               "udp tcp" + (" dot" if a.tls_port else ""), a.secs, out, only=a.only); return
    if not os.path.exists(f"{BD}/tls/cert.pem"):
        os.makedirs(f"{BD}/tls", exist_ok=True)
        sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {BD}/tls/key.pem -out {BD}/tls/cert.pem -days 3650 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1")
    nm = a.name + a.tag
    p, t, n = start(a.name, a.data, 1, "0")
    pids = tree(p.pid)
    line = {"server": nm, "what": "load", "seconds_to_first_answer": round(t, 2), "first_answer_bytes": n, "rss_mb": rss(pids)}
    print(json.dumps(line), flush=True); out.write(json.dumps(line) + "\n")
    try: matrix(nm, "127.0.0.1", PORT, TLSPORT, pids, a.data, SERVERS[a.name][1], a.secs, out, only=a.only)
    finally: stop(p)
    if not a.skip2:
        p, t, n = start(a.name, a.data, 2, "0-1")
        try:
            pids = tree(p.pid)
            if not a.only: matrix(nm, "127.0.0.1", PORT, TLSPORT, pids, a.data, SERVERS[a.name][1], a.secs, out, "0-1", "2core", "udp-hit (dnsperf|blast)")
            else: matrix(nm, "127.0.0.1", PORT, TLSPORT, pids, a.data, SERVERS[a.name][1], a.secs, out, "0-1", "2core", a.only)
        finally: stop(p)

if __name__ == "__main__": main()
