#!/usr/bin/env python3
"""dnsbench.py: every row of the table, server by server, in alternating rounds. Called by run.sh, which prepares what it needs.

One core serves (0), the other one loads (1); instances named "...2" run unpinned, both on both cores. Each measurement becomes a
line of JSON in the results file: {"round", "server", "row", ...}. table.py makes the table. Exit code 1 when a right question got a
wrong answer anywhere, or a server could not be measured.
"""
import argparse, json, os, re, signal, subprocess, sys, time, urllib.request
import servers, updates
from servers import BD, HTTP, LDAP, PORT, TLS, Z, Absent, Server, sh

# Which rows each instance is asked for, in this order. (instance, server, workers, cores, rows)
PINNED = [
    ("udpecho", ["hit"]),
    ("udpserve", ["hit"]),
    ("streamecho", ["tcp"]),
    ("streamecho-tls", ["dot"]),
    ("certdir", ["start", "hit", "hit1232", "fit1232", "miss-live", "tcp", "dot", "memory"]),
    ("certdir-chain", ["miss-chain"]),
    ("knot", ["start", "hit", "hit1232", "fit1232", "miss-chain", "tcp", "memory"]),
    ("nsd", ["start", "hit", "hit1232", "fit1232", "miss-chain", "tcp", "dot", "memory"]),
    ("bind", ["start", "hit", "hit1232", "fit1232", "miss-chain", "tcp", "dot", "memory"]),
    ("pdns", ["hit-cold", "hit", "tcp-cold", "tcp", "memory"]),
    ("pdns-narrow", ["miss-live"]),
    ("signrate", ["miss-live"]),
]
UNPINNED = [(s, ["hit2"]) for s in ("certdir", "knot", "nsd", "bind", "pdns")]
UPDATED = [(s, ["update"]) for s in ("certdir", "bind", "knot")]
MILLION = [("certdir", ["start", "hit", "miss-live", "memory"]), ("knot", ["start", "hit", "miss-chain", "memory"])]


class Run:
    def __init__(self, options):
        self.o, self.data, self.failures, self.round = options, options.data, [], 0
        self.out = open(options.out, "a")
        users = [l.split("\t", 4)[2] for l in open(f"{self.data}/users.tsv")]
        self.large = users.count("r") / len(users)  # the share of certificates whose answer is longer than 1232 octets

    def wants(self, rows):
        return [r for r in rows if not self.o.only or re.fullmatch(self.o.only, r)]

    def line(self, server, row, **figures):
        wrong = figures.get("wrong", 0)
        if wrong: self.fail(f"{server} {row}: {wrong} wrong answers of {figures.get('got')}")
        text = json.dumps({"round": self.round, "server": server, "row": row, **figures})
        self.out.write(text + "\n"); self.out.flush()
        print(text if len(text) < 400 else text[:397] + "...", flush=True)

    def fail(self, why):
        self.failures.append(why); print("FAILED:", why, flush=True)
        self.out.write(json.dumps({"round": self.round, "row": "failed", "why": why}) + "\n")

    def left_out(self, server, row, why):
        print(f"{server} {row} left out: {why}", flush=True)
        if self.round == 0: self.out.write(json.dumps({"row": "left-out", "server": server, "rows": row, "why": str(why)}) + "\n")

    # ---- load generators

    def load(self, server, command, cpus="1"):
        """Runs a generator; its figures, and the share of a core the server used meanwhile."""
        before = server.cpu()
        r = sh(f"taskset -c {cpus} {command}")
        try: figures = json.loads(r.stdout)
        except ValueError: raise RuntimeError(f"{command}: {(r.stdout + r.stderr)[-300:]}")
        server.alive()
        if not figures["got"]: raise RuntimeError(f"{command}: no answer at all")
        figures["srv_cpu"] = round((server.cpu() - before) / figures["secs"], 3)
        return figures

    def udp(self, server, queries="hit", expect="hit", more="", secs=None, cpus="1"):
        return self.load(server, f"{BD}/bin/udpblast -p {PORT} -d {self.data}/q-{queries}.txt -l {secs or self.o.secs} -e {expect} {more}", cpus)

    def stream(self, server, port, more="", secs=None):
        return self.load(server, f"{BD}/bin/streamblast -p {port} -d {self.data}/q-hit.txt -l {secs or self.o.secs} -e hit -c 8 {more}")

    def dnsperf(self, server, mode, port, secs=2):
        before = server.cpu()
        o = sh(f"taskset -c 1 dnsperf -s 127.0.0.1 -p {port} -d {self.data}/q-hit.txt -l {secs} -e -D -m {mode} -c 8 -q 200 -T 1 -t 1").stdout
        g = lambda r: float((re.search(r, o) or [0, "0"])[1])
        codes = (re.search(r"Response codes:\s+(.*)", o) or ["", "?"])[1]
        return {"qps": round(g(r"Queries per second:\s+([\d.]+)")), "lost": int(g(r"Queries lost:\s+(\d+)")), "rcodes": codes,
                "srv_cpu": round((server.cpu() - before) / secs, 3), "wrong": 0 if re.fullmatch(r"NOERROR \d+ \(100.00%\)", codes.strip()) else 1}

    # ---- one row each: figures of a server that runs and is warm

    def row(self, server, row):
        name = server.name
        if row == "hit": return self.udp(server, expect="any" if name == "udpecho" else "hit")
        if row == "hit-cold": return self.udp(server)
        if row == "hit2": return self.udp(server, more="-c 32", cpus="0-1")
        if row == "fit1232": return self.udp(server, "fit", more="-b 1232")
        if row == "hit1232":
            f = self.udp(server, more="-b 1232 -t")
            # only answers that cannot fit may be truncated; which names are asked is random
            if f["tc"] > f["got"] * (self.large + 0.02): f["wrong"] += round(f["tc"] - f["got"] * self.large)
            return f
        if row in ("miss-chain", "miss-live"): return self.udp(server, "miss", "miss", "-r")
        if row in ("tcp", "tcp-cold"): return self.stream(server, PORT)
        if row == "dot" and name == "certdir" and "--dot" not in server.command: raise Absent("certdir serve has no --dot")
        if row == "dot": return self.stream(server, TLS, "-T")
        if row == "memory":
            if name == "certdir": self.touch_other_views()
            return {"mib": server.pss()}
        raise KeyError(row)

    def touch_other_views(self):
        """LDAP and HTTP answer as well, so that what they build lazily is counted."""
        mail = open(f"{self.data}/users.tsv").readline().split("\t")[0]
        found = sh(f"ldapsearch -x -LLL -H ldap://127.0.0.1:{LDAP} -b dc=bench,dc=example '(mail={mail})' 'userCertificate;binary'").stdout
        if "userCertificate" not in found: raise RuntimeError("LDAP did not answer with the certificate")
        urllib.request.urlopen(f"http://127.0.0.1:{HTTP}/healthz", timeout=5).read()

    # ---- instances

    def begin(self, server):
        """Starts the server. For those that answer with records: the time to the first right answer and the rate in each tenth of a
        second from there, by a generator that waits for it (which also warms it)."""
        if server.name.startswith("streamecho"):
            server.start(); time.sleep(0.3); server.alive()
            return None
        secs = self.o.start_secs if server.name.split("-")[0] in ("certdir", "knot", "nsd", "bind") else 0.5
        blaster = subprocess.Popen(f"exec taskset -c {'1' if server.cpus == '0' else '0-1'} {BD}/bin/udpblast -p {PORT} -d {self.data}/q-hit.txt -l {secs} -w {900 if self.o.million else 120} "
                                   f"-e {'any' if server.name == 'udpecho' else 'hit'}", shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if blaster.stdout.readline() != "ready\n": raise RuntimeError("udpblast: " + blaster.stderr.read())
            began = server.start()
            while True:
                try: blaster.wait(0.5); break
                except subprocess.TimeoutExpired: server.alive()
            if blaster.returncode: raise RuntimeError(f"{server.name}: " + blaster.stderr.read().strip())
            figures = json.loads(blaster.stdout.read())
        finally:
            if blaster.poll() is None: blaster.kill(); blaster.wait()
        return {"first_s": round(figures["first"] - began, 3), **{k: figures[k] for k in ("rates", "wrong", "got")}}

    def instance(self, name, rows, workers=1, cpus="0"):
        rows = self.wants(rows)
        if not rows or (self.o.servers and name.split("-")[0] not in self.o.servers): return
        if name == "signrate": return self.signrate()
        server = None
        try:
            server = Server(name, self.data, workers, cpus)
            start = self.begin(server)
            rate = None
            for row in rows:
                if row in ("start", "memory"): continue
                if name == "pdns" and row in ("hit", "hit2"): self.udp(server, secs=self.o.warm_secs, cpus="1" if cpus == "0" else "0-1")
                if name == "pdns" and row == "tcp": self.stream(server, PORT, secs=self.o.warm_secs)
                try: figures = self.row(server, row)
                except Absent as e: self.left_out(name, row, e); continue
                if row == "hit": rate = figures["qps"]
                self.line(name, row, **figures)
            if self.o.cross_check and self.round == 0 and cpus == "0" and name in ("certdir", "knot", "nsd", "bind"):
                for row, mode, port in (("hit", "udp", PORT), ("tcp", "tcp", PORT), ("dot", "dot", TLS)):
                    if row in rows and (row != "dot" or name != "certdir" or "--dot" in server.command): self.line(name, row + "-dnsperf", **self.dnsperf(server, mode, port))
            if "start" in rows:
                rates = start["rates"]
                # the rate of the same round's row; without it what the generator saw in its second half
                steady = rate or sorted(rates[len(rates) // 2:])[len(rates) // 4]
                full = next((i for i, r in enumerate(rates) if r >= 0.9 * steady), len(rates))
                self.line(name, "start", **start, full_s=round(start["first_s"] + full / 10, 2), full_seen=full < len(rates), steady=steady)
            if "memory" in rows: self.line(name, "memory", **self.row(server, "memory"))
        except Absent as e: self.left_out(name, ", ".join(rows), e)
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            self.fail(f"{name}: {e}")
        finally:
            if server: server.stop()

    def signrate(self):
        """The base of the bar for misses that are signed on the fly: P-256 signatures a second on the server's core."""
        ring = float(sh(f"taskset -c 0 {BD}/bin/signrate 1").stdout or 0)
        o = sh("taskset -c 0 openssl speed -seconds 1 ecdsap256").stdout
        openssl = float((re.search(r"nistp256\)\s+\S+\s+\S+\s+([\d.]+)", o) or [0, 0])[1])
        self.line("signrate", "miss-live", qps=round(max(ring, openssl)), ring=ring, openssl=openssl)

    def update(self, name, rows):
        if not self.wants(rows) or (self.o.servers and name not in self.o.servers) or self.round >= self.o.update_rounds: return
        try: self.line(name, "update", **updates.measure(name, self.data, self.o.updates))
        except Absent as e: self.left_out(name, "update", e)
        except (RuntimeError, OSError, subprocess.SubprocessError) as e: self.fail(f"{name} update: {e}")

    def prepare(self, plan):
        """certdir's data folders and PowerDNS's databases, so that nothing is written between the measurements."""
        make = {"certdir": lambda: servers.certdir_data(self.data), "certdir-chain": lambda: servers.certdir_data(self.data, "chain"),
                "pdns": lambda: servers.pdns_database(self.data, False), "pdns-narrow": lambda: servers.pdns_database(self.data, True)}
        for name, rows in plan:
            if name in make and self.wants(rows) and not (self.o.servers and name.split("-")[0] not in self.o.servers):
                try: make[name]()
                except Absent as e: print(f"{name}: {e}", flush=True)  # said again, and noted, when its turn comes
        os.sync()

    def everything(self):
        plan = [(n, r, 1, "0") for n, r in (MILLION if self.o.million else PINNED)]
        if not self.o.million: plan += [(n, r, 2, "0-1") for n, r in UNPINNED]
        self.prepare([(n, r) for n, r, _, _ in plan] + UPDATED)
        if self.o.prepare: return
        for self.round in range(self.o.rounds):
            # every second round goes backwards, so that a machine that gets slower or faster treats all alike
            for name, rows, workers, cpus in plan if self.round % 2 == 0 else plan[::-1]: self.instance(name, rows, workers, cpus)
            for name, rows in UPDATED[:1] if self.o.million else UPDATED: self.update(name, rows)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True); ap.add_argument("--out", required=True, help="results file, JSON lines")
    ap.add_argument("--million", action="store_true", help="the rows for the large population")
    ap.add_argument("--quick", action="store_true", help="2 rounds of 1 s, no dnsperf")
    ap.add_argument("--only", help="only these rows: a regular expression that matches the whole name (hit, hit1232, ...)")
    ap.add_argument("--servers", type=lambda s: s.split(","), help="only these, by comma")
    ap.add_argument("--rounds", type=int); ap.add_argument("--secs", type=float, help="length of a measurement")
    ap.add_argument("--prepare", action="store_true", help="only make what the servers need")
    ap.add_argument("--keep-data", action="store_true", help="use certdir's data folders as they are")
    o = ap.parse_args()
    o.rounds = o.rounds or (2 if o.quick else 3 if o.million else 5)
    o.secs = o.secs or (1 if o.quick else 3)
    o.start_secs = 1.5 if o.quick else 3
    o.warm_secs = 4 if o.quick else 6
    o.updates, o.update_rounds = (100, 1) if o.quick else (500, 3)
    o.cross_check = not o.quick
    servers.KEEP_DATA = o.keep_data
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped
    os.sched_setaffinity(0, {1})  # this program, too, stays off the server's core
    run = Run(o)
    lscpu = lambda k: (re.search(rf"^{k}:\s*(.*)", sh("LC_ALL=C lscpu").stdout, re.M) or ["", "?"])[1]
    run.out.write(json.dumps({"row": "about", "date": time.strftime("%Y-%m-%d %H:%M"), "cpu": lscpu("Model name"), "cores": os.cpu_count(), "kernel": os.uname().release,
                              "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30), "load_before": os.getloadavg()[0], "data": os.path.basename(o.data),
                              "certificates": sum(1 for _ in open(f"{o.data}/users.tsv")), "large_share": run.large, "rounds": o.rounds, "secs": o.secs,
                              "million": o.million, "versions": servers.versions(), "settings_missing": servers.missing_settings()}) + "\n")
    if os.getloadavg()[0] > 0.5: print(f"warning: load average {os.getloadavg()[0]:.2f}: other work has the cores, the figures will be low", flush=True)
    if servers.missing_settings(): print("this certdir has no", " ".join(servers.missing_settings()), flush=True)
    began = time.time()
    run.everything()
    run.out.write(json.dumps({"row": "end", "took_s": round(time.time() - began), "failures": len(run.failures)}) + "\n"); run.out.close()
    for f in run.failures: print("FAILED:", f)
    sys.exit(1 if run.failures else 0)


if __name__ == "__main__":
    main()
