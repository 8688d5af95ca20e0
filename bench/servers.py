"""The servers that are compared: how each is configured, started on given cores, watched and stopped.

Everything generated is below $BENCH_DIR (default /tmp/bench). Ports: $BENCH_PORT (default 5301) for DNS, and the next five
for DNS over TLS, LDAP, HTTP, HTTPS and DNS over QUIC. All on loopback.
"""
import hashlib, json, os, re, shutil, signal, socket, struct, subprocess, time

BD = os.environ.get("BENCH_DIR", "/tmp/bench")
HERE = os.path.dirname(os.path.abspath(__file__))
CERTDIR = os.path.abspath(os.environ.get("CERTDIR", os.path.join(HERE, "..", "target", "release", "certdir")))
PORT = int(os.environ.get("BENCH_PORT", "5301"))
TLS, LDAP, HTTP, HTTPS, DOQ = (PORT + i for i in range(1, 6))
Z = "bench.example"
os.environ["PATH"] += ":/usr/sbin:/sbin"


ALL_CORES = ["taskset", "-c", f"0-{os.cpu_count() - 1}"]  # for preparations: the harness itself stays on one core


class Absent(Exception):
    """The server cannot do what a row asks."""


def sh(command, **k):
    return subprocess.run(command, shell=True, text=True, capture_output=True, **k)


def wire(name):
    return b"".join(bytes([len(l)]) + l.encode() for l in name.rstrip(".").split(".")) + b"\0"


def smimea_query(name):
    """SMIMEA with DO and EDNS 4096."""
    return struct.pack(">HHHHHH", 4660, 0, 1, 0, 0, 1) + wire(name) + struct.pack(">HHBHHIH", 53, 1, 0, 41, 4096, 0x8000, 0)


# ---- the peers. Each function writes the configuration into folder d and returns the command; data/bench.example.zone.signed is
# served with `workers` threads or processes, UDP answers up to 4096 octets, no query log, no rate limiting, ample TCP limits.

def knot(d, data, workers):
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


def nsd(d, data, workers):
    key, cert = tls_files()
    open(f"{d}/nsd.conf", "w").write(f"""
server:
    ip-address: 127.0.0.1@{PORT}
    ip-address: 127.0.0.1@{TLS}
    tls-port: {TLS}
    tls-service-key: "{key}"
    tls-service-pem: "{cert}"
    server-count: {workers}
    reuseport: {"yes" if workers > 1 else "no"}
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


def bind(d, data, workers):
    key, cert = tls_files()
    open(f"{d}/named.conf", "w").write(f"""
tls t {{ key-file "{key}"; cert-file "{cert}"; }};
options {{
    directory "{d}"; pid-file none; session-keyfile "{d}/session.key"; managed-keys-directory "{d}";
    listen-on port {PORT} {{ 127.0.0.1; }};
    listen-on port {TLS} tls t {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no; max-udp-size 4096; edns-udp-size 4096; minimal-responses yes; querylog no; tcp-clients 1000;
    dnssec-validation no; notify no; check-names primary ignore; zone-statistics none; allow-transfer {{ any; }};
}};
controls {{ }};
zone "{Z}" {{ type primary; file "{data}/{Z}.zone.signed"; }};
""")
    return ["named", "-g", "-n", str(workers), "-c", f"{d}/named.conf", "-d", "0"]


def pdns(narrow):
    """PowerDNS signs by itself; its caches live for an hour here, so that "warm" means warm. narrow: minimally covering denial."""
    def configure(d, data, workers):
        database = pdns_database(data, narrow)
        open(f"{d}/pdns.conf", "w").write(f"""
launch=lmdb
lmdb-filename={database}/pdns.lmdb
lmdb-map-size=8000
local-address=127.0.0.1
local-port={PORT}
receiver-threads={workers}
reuseport={"yes" if workers > 1 else "no"}
distributor-threads=1
signing-threads={workers}
udp-truncation-threshold=4096
cache-ttl=3600
query-cache-ttl=3600
negquery-cache-ttl=3600
socket-dir={d}
daemon=no
guardian=no
loglevel=3
edns-subnet-processing=no
version-string=anonymous
max-tcp-connections=1000
max-tcp-connections-per-client=0
max-tcp-transactions-per-conn=0
zone-cache-refresh-interval=300
security-poll-suffix=
""")
        return ["pdns_server", f"--config-dir={d}"]
    return configure


def pdns_database(data, narrow):
    """The folder of a database with the population; made once."""
    folder = f"{data}/pdns-narrow" if narrow else f"{data}/pdns"
    if os.path.exists(f"{folder}/ready"): return folder
    shutil.rmtree(folder, ignore_errors=True); os.makedirs(folder)
    open(f"{folder}/pdns.conf", "w").write(f"launch=lmdb\nlmdb-filename={folder}/pdns.lmdb\nlmdb-map-size=8000\n")
    util = f"{' '.join(ALL_CORES)} pdnsutil --config-dir={folder} "
    print(f"loading PowerDNS{' (narrow)' if narrow else ''} ...", flush=True)
    for step in [f"load-zone {Z} {data}/{Z}.zone", f"secure-zone {Z}", f"set-nsec3 {Z} '1 0 0 -'{' narrow' if narrow else ''}", f"rectify-zone {Z}"]:
        r = sh(util + step)
        if r.returncode: raise Absent(f"pdnsutil {step}: {(r.stdout + r.stderr)[-300:]}")
    open(f"{folder}/ready", "w").close()
    return folder


# ---- certdir

def certdir_help(*command):
    """The long flags that this build of certdir knows for a command."""
    return set(re.findall(r"--[a-z0-9][a-z0-9-]*", sh(" ".join([CERTDIR, *command, "--help"])).stdout))


# The benchmark's settings of `certdir serve`, in one place: no cookie asked for, UDP answers up to 4096 octets, rate limiting on with a
# limit that is never reached, counters on (they always are), a budget of signatures that is never reached.
CERTDIR_SETTINGS = [
    ("--udp-payload", "4096"),
    ("--udp-certificates", "always"),
    ("--dns-rate", "100000000"),
    ("--dns-signatures", "1000000"),
    ("--lookups-per-second", "1000000"),
    ("--lookups-burst", "1000000"),
]
KEEP_DATA = False  # True: certdir's data folders are used as they are, whichever build made them


def certdir_stamp():
    return hashlib.sha256(open(CERTDIR, "rb").read()).hexdigest()


def certdir_data(data, denial=None):
    """A data folder with the population published. It is made again when another build of certdir made it, or more than a day ago:
    then part of its signatures would be renewed during the run."""
    flags = certdir_help("domain", "add")
    if denial and "--denial" not in flags: raise Absent("certdir domain add has no --denial")
    d = f"{data}/certdir" + (f"-{denial}" if denial else "")
    stamp = f"{d}.stamp"
    fresh = os.path.exists(stamp) and open(stamp).read() == certdir_stamp() and time.time() - os.path.getmtime(stamp) < 86400
    if os.path.exists(d) and (fresh or KEEP_DATA): return d
    shutil.rmtree(d, ignore_errors=True)
    run = lambda *a: subprocess.run([*ALL_CORES, CERTDIR, "--data", d, *a], check=True, stdout=subprocess.DEVNULL)
    run("domain", "add", Z, "--hosting", "smimecert", "--ttl", "3600", *(["--denial", denial] if denial else []))
    print(f"publishing into {d} ...", flush=True)
    t = time.time()
    for bundle in bundles(data): run("publish", bundle)
    print(f"published in {time.time() - t:.1f} s", flush=True)
    open(stamp, "w").write(certdir_stamp())
    return d


def bundles(data):
    """The files with the population's certificates: one, or parts of a large one."""
    if os.path.exists(f"{data}/certs.pem"): return [f"{data}/certs.pem"]
    return sorted(f"{data}/parts/{f}" for f in os.listdir(f"{data}/parts"))


def certdir_command(folder, workers):
    flags = certdir_help("serve")
    command = [CERTDIR, "--data", folder, "serve", "--dns", f"127.0.0.1:{PORT}", "--dns-workers", str(workers),
               "--ldap", f"127.0.0.1:{LDAP}", "--http", f"127.0.0.1:{HTTP}"]
    for flag, value in CERTDIR_SETTINGS:
        if flag in flags: command += [flag, value]
    # All that certdir serves listens, also what no row measures: it counts for the memory.
    for flag, port in (("--dot", TLS), ("--https", HTTPS), ("--doq", DOQ)):
        if flag in flags: command += [flag, f"127.0.0.1:{port}"]
    return command


def missing_settings():
    flags = certdir_help("serve")
    return [f for f, _ in CERTDIR_SETTINGS if f not in flags]


def certdir(denial=None):
    return lambda d, data, workers: certdir_command(certdir_data(data, denial), workers)


# ---- ceilings

def mean_answer(data):
    """The mean size of a positive answer of the population, in octets: the certificate and 235 for headers, question, RRSIG and OPT."""
    sizes = [int(l.split("\t")[3]) for _, l in zip(range(10000), open(f"{data}/users.tsv"))]
    return sum(sizes) // len(sizes) + 235


def udpecho(d, data, workers): return [f"{BD}/bin/udpecho", str(PORT), str(mean_answer(data))]
def udpserve(d, data, workers): return [f"{BD}/bin/udpserve", str(PORT), f"{data}/users.tsv"]
def streamecho(d, data, workers): return [f"{BD}/bin/streamecho", str(PORT), str(mean_answer(data))]
def streamecho_tls(d, data, workers): return [f"{BD}/bin/streamecho", str(TLS), str(mean_answer(data)), *tls_files()]


CONFIGURE = {"certdir": certdir(), "certdir-chain": certdir("chain"), "knot": knot, "nsd": nsd, "bind": bind, "pdns": pdns(False),
             "pdns-narrow": pdns(True), "udpecho": udpecho, "udpserve": udpserve, "streamecho": streamecho, "streamecho-tls": streamecho_tls}


def tls_files():
    """Key and certificate (P-256, self-signed) for those that need files."""
    d = f"{BD}/tls"
    if not os.path.exists(f"{d}/cert.pem"):
        os.makedirs(d, exist_ok=True)
        sh(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {d}/key.pem -out {d}/cert.pem -days 3650 "
           "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1", check=True)
    return f"{d}/key.pem", f"{d}/cert.pem"


# ---- processes

class Server:
    """A running server. `command` replaces the one of CONFIGURE (the update test has its own configurations)."""
    def __init__(self, name, data, workers, cpus, command=None):
        self.name = name
        self.folder = f"{BD}/run/{name}"
        shutil.rmtree(self.folder, ignore_errors=True); os.makedirs(self.folder)
        self.command = (command or CONFIGURE[name])(self.folder, data, workers)
        self.cpus = cpus
        self.process = None

    def start(self):
        """Starts it and returns CLOCK_MONOTONIC just before."""
        for port in (PORT, TLS, LDAP, HTTP, HTTPS):
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))  # fails loudly when something else has the port
        out = open(f"{self.folder}/out", "w")
        t = time.monotonic()
        self.process = subprocess.Popen(["taskset", "-c", self.cpus] + self.command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        return t

    def alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: " + open(f"{self.folder}/out").read()[-1500:])

    def pids(self):
        out, todo = [], [self.process.pid]
        while todo:
            p = todo.pop(); out.append(p)
            try:
                for t in os.listdir(f"/proc/{p}/task"): todo += map(int, open(f"/proc/{p}/task/{t}/children").read().split())
            except OSError: pass
        return out

    def cpu(self):
        """Seconds of CPU so far, all processes."""
        total = 0
        for p in self.pids():
            try: f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split(); total += int(f[11]) + int(f[12])
            except OSError: pass
        return total / os.sysconf("SC_CLK_TCK")

    def pss(self):
        """Proportional set size of all processes, MiB."""
        total = 0
        for p in self.pids():
            try: total += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{p}/smaps_rollup").read(), re.M)[1])
            except OSError: pass
        return round(total / 1024, 1)

    def stop(self):
        if not self.process: return
        for sig, wait in ((signal.SIGTERM, 20), (signal.SIGKILL, 10)):
            for p in reversed(self.pids()):
                try: os.kill(p, sig)
                except OSError: pass
            try: self.process.wait(wait); break
            except subprocess.TimeoutExpired: pass
        # children of a parent that ended first
        try: os.killpg(self.process.pid, signal.SIGKILL)
        except OSError: pass
        time.sleep(0.3)


def versions():
    """Name and version of each program measured."""
    first = lambda c: ((lambda r: (r.stdout + r.stderr).strip().splitlines() or ["?"])(sh(c)))[0]
    commit = first(f"git -C {HERE} describe --always --dirty")
    return {"certdir": first(f"{CERTDIR} --version") + f" (source {commit})", "knot": first("knotd --version"), "nsd": first("nsd -v"), "bind": first("named -V"),
            "pdns": "PowerDNS " + first("dpkg-query -W -f '${Version}' pdns-server"), "dnsperf": "dnsperf " + first("dpkg-query -W -f '${Version}' dnsperf"), "openssl": first("openssl version")}
