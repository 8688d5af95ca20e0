"""Updates until visible. Each replaces one certificate of the signed zone by another one:

1. one after the other: the time to the reply, and to the first signed answer over UDP that holds the new certificate;
2. one after the other over one connection without looking: updates a second;
3. the same over eight connections at once, each from its own loopback address (certdir admits four uploads at once from one).

certdir takes them as POST /v1/certificates with a publisher's token; BIND and Knot as RFC 2136 over TCP. certdir works on a copy of
its data folder, BIND and Knot on copies of the zone, so that every run begins alike.
"""
import json, os, re, selectors, shutil, socket, struct, subprocess, time
import servers
from servers import HTTP, PORT, Z, Server, smimea_query, wire


class Rfc2136:
    """Delete the RRset, add the record: an unsigned update over TCP."""
    address = ("127.0.0.1", PORT)

    def request(self, owner, der):
        o, rdata = wire(owner), b"\3\0\0" + der
        m = (struct.pack(">HHHHHH", 77, 5 << 11, 1, 0, 2, 0) + wire(Z) + struct.pack(">HH", 6, 1)
             + o + struct.pack(">HHIH", 53, 255, 0, 0) + o + struct.pack(">HHIH", 53, 1, 3600, len(rdata)) + rdata)
        return struct.pack(">H", len(m)) + m

    def whole(self, got):
        return len(got) >= 2 and len(got) >= 2 + struct.unpack(">H", got[:2])[0]

    def check(self, got):
        if got[5] & 15: raise RuntimeError(f"update: rcode {got[5] & 15}")
        return True


class Api:
    """POST /v1/certificates; keeps the connection."""
    address = ("127.0.0.1", HTTP)

    def __init__(self, folder):
        out = subprocess.run([servers.CERTDIR, "--data", folder, "--json", "token", "add", "--role", "publisher", "--domain", Z], check=True, capture_output=True)
        self.head = ("POST /v1/certificates HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkix-cert\r\n"
                     f"Authorization: Bearer {json.loads(out.stdout)['token']}\r\nContent-Length: ").encode()

    def request(self, owner, der):
        return self.head + b"%d\r\n\r\n" % len(der) + der

    def whole(self, got):
        end = got.find(b"\r\n\r\n")
        if end < 0: return False
        head = got[:end].lower()
        length = re.search(rb"content-length: *(\d+)", head)
        return len(got) >= end + 4 + int(length[1]) if length else got.endswith(b"0\r\n\r\n")

    def check(self, got):
        """False: the server closes this connection."""
        if not got.startswith(b"HTTP/1.1 200"): raise RuntimeError(f"publish: {got[:400]}")
        if b'"published"' not in got and b'"superseded"' not in got: raise RuntimeError(f"publish changed nothing: {got[-400:]}")
        return b"connection: close" not in got.lower().split(b"\r\n\r\n")[0]


def dial(p, number=0):
    s = socket.create_connection(p.address, source_address=(f"127.0.0.{number + 1}", 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Client:
    """One update at a time over one connection."""
    def __init__(self, p): self.p, self.s = p, None
    def submit(self, owner, der):
        if not self.s: self.s = dial(self.p)
        self.s.sendall(self.p.request(owner, der))
        got = b""
        while not self.p.whole(got):
            more = self.s.recv(65536)
            if not more: raise RuntimeError("the server closed the connection")
            got += more
        if not self.p.check(got): self.s.close(); self.s = None


def together(p, rows, connections):
    """All updates over some connections, one outstanding on each; updates a second."""
    todo = iter([p.request(o, der) for o, der in rows])
    poll, open_ = selectors.DefaultSelector(), 0
    def give(s):
        request = next(todo, None)
        if request: s.sendall(request)
        return request is not None
    began = time.perf_counter()
    for number in range(connections):
        s = dial(p, number)
        if give(s): poll.register(s, selectors.EVENT_READ, [b"", number]); open_ += 1
    while open_:
        for key, _ in poll.select(30) or [(None, None)]:
            if not key: raise RuntimeError("no reply in 30 s")
            s, got = key.fileobj, key.data
            more = s.recv(65536)
            if not more: raise RuntimeError("the server closed the connection")
            got[0] += more
            if not p.whole(got[0]): continue
            keep, got[0] = p.check(got[0]), b""
            if not keep:
                poll.unregister(s); s.close(); s = dial(p, got[1]); poll.register(s, selectors.EVENT_READ, got)
            if not give(s): poll.unregister(s); s.close(); open_ -= 1
    return len(rows) / (time.perf_counter() - began)


def visible(s, owner, der, limit=30):
    began, query = time.perf_counter(), smimea_query(owner)
    while time.perf_counter() - began < limit:
        s.send(query)
        try: r = s.recv(65535)
        except OSError: continue
        if der in r and r[3] & 15 == 0 and struct.unpack(">H", r[6:8])[0] >= 2: return True
        time.sleep(0.0002)
    return False


def knot(d, data, workers):
    shutil.copy(f"{data}/{Z}.zone", f"{d}/{Z}.zone")
    open(f"{d}/knot.conf", "w").write(f"""
server:
    rundir: "{d}"
    listen: 127.0.0.1@{PORT}
    udp-workers: {workers}
    tcp-workers: {workers}
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
    address: 127.0.0.0/8
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


def bind(d, data, workers):
    shutil.copy(f"{data}/{Z}.zone.signed", f"{d}/{Z}.zone")
    shutil.copytree(f"{data}/keys", f"{d}/keys")
    # The zone is signed already, with these keys; BIND takes them over and signs what an update changes.
    open(f"{d}/named.conf", "w").write(f"""
options {{ directory "{d}"; pid-file none; session-keyfile "{d}/session.key"; managed-keys-directory "{d}";
  listen-on port {PORT} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; max-udp-size 4096; minimal-responses yes;
  dnssec-validation no; notify no; }};
controls {{ }};
logging {{ channel errors {{ stderr; severity warning; }}; category default {{ errors; }}; }}; // by default each update is logged with its whole record
dnssec-policy p {{
  keys {{ ksk key-directory lifetime unlimited algorithm ecdsap256sha256; zsk key-directory lifetime unlimited algorithm ecdsap256sha256; }};
  nsec3param iterations 0 optout no salt-length 0;
}};
zone "{Z}" {{ type primary; file "{d}/{Z}.zone"; key-directory "{d}/keys"; dnssec-policy p; inline-signing no; allow-update {{ any; }}; }};
""")
    return ["named", "-f", "-n", str(workers), "-c", f"{d}/named.conf"]


def certdir(d, data, workers):
    folder = f"{servers.BD}/run/certdir-update-data"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(servers.certdir_data(data), folder)
    return servers.certdir_command(folder, workers)


def measure(name, data, n):
    """n updates of each of the three kinds; Knot fewer, because it needs a tenth of a second for each."""
    if name == "knot": n = min(n, 60)
    rows = [(o, bytes.fromhex(h)) for _, o, h in (l.rstrip("\n").split("\t") for l in open(f"{data}/upd.tsv"))]
    n = min(n, len(rows) // 3)
    server = Server(f"{name}-update", data, 1, "0", {"knot": knot, "bind": bind, "certdir": certdir}[name])
    try:
        server.start()
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.25); s.connect(("127.0.0.1", PORT))
        limit = time.time() + 300
        while time.time() < limit:
            server.alive()
            try:
                s.send(smimea_query(rows[0][0])); r = s.recv(65535)
                if r[3] & 15 == 0 and struct.unpack(">H", r[6:8])[0] >= 2: break
            except OSError: pass
            time.sleep(0.05)
        else: raise RuntimeError("no signed answer in 300 s")
        time.sleep(2)  # what a server does just after its start is not measured here
        p = Api(f"{servers.BD}/run/certdir-update-data") if name == "certdir" else Rfc2136()
        client, reply, seen, late = Client(p), [], [], 0
        for owner, der in rows[:n]:
            t = time.perf_counter(); client.submit(owner, der); replied = time.perf_counter()
            if not visible(s, owner, der): late += 1
            seen.append(round((time.perf_counter() - t) * 1e3, 3)); reply.append(round((replied - t) * 1e3, 3))
        t = time.perf_counter()
        for owner, der in rows[n:2 * n]: client.submit(owner, der)
        one = n / (time.perf_counter() - t)
        eight = together(p, rows[2 * n:3 * n], 8)
        if late: raise RuntimeError(f"{late} updates were not visible within 30 s")
        return {"n": n, "per_s": round(one, 1), "per_s_8": round(eight, 1), "visible_ms": seen, "reply_ms": reply}
    finally: server.stop()
