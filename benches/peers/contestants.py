"""Servers that are compared: started on this machine, pinned, filled, loaded, measured, and ended again."""
import argparse, collections, contextlib, hashlib, http.client, json, os, platform, random, re, resource, shutil, signal, socket, ssl, subprocess, sys
import tempfile, time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TICKS = os.sysconf("SC_CLK_TCK")
KEY = "rgw_4fe2b0c6a17d4d2c9c3f6f1d9f0b7a5e8c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f"
PATH = "/v2/enterprises/6a09cdc3-8948-47f0-aa62-74ac943d6c58/reputation/numbers/+1%d"
FIRST = 2025550000
REQUESTS = 65536  # made before a run, and sent over and over
# What Varnish would write to its log in memory for each hit; it knows no switch for all of them.
VARNISH_QUIET = ",".join("-" + tag for tag in """Begin End Link SessOpen SessClose Timestamp Hit HitMiss Filters VCL_call VCL_return VCL_use ReqStart
    ReqMethod ReqURL ReqProtocol ReqHeader ReqUnset ReqAcct RespProtocol RespStatus RespReason RespHeader RespUnset""".split())

# Where the load comes from (None: the server's own CPUs), over how many connections, for which paths and by which protocol. A server runs on as
# many CPUs as it has workers, from CPU 0 on.
Case = collections.namedtuple("Case", "what load_cpus conns paths protocol")


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def spawn(bench, command, cpus, **options):
    """Starts a server, to be ended with the run."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, cpus), **options)
    bench.ends.callback(end, process)
    return process


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """One contestant, running and pinned. Its name is that of its program, with what is particular to it behind."""

    def __init__(self, bench, name, under=()):
        self.name, self.bench, self.under = name, bench, under  # `under`: what to run it with
        self.cpus = list(range(int(name.split("*")[1]) if "*" in name else 1))
        self.process = (self.gateway if name.startswith("gateway") else self.peer)()
        for port in set(self.ports.values()):
            self.wait_for(port)

    def gateway(self):
        tls = f'tls = {{ certificate = "{self.bench.dir}/certificate.pem", private_key = "{self.bench.dir}/key.pem" }}'
        config = self.bench.file("gateway.toml", self.name + ".toml", WORKERS=len(self.cpus), TLS=tls if "+tls" in self.name else "",
                                 KEY_SHA256=hashlib.sha256(KEY.encode()).hexdigest(), LOG="info" if "+log" in self.name else "warn")
        self.log = open(f"{self.bench.dir}/{self.name}.log", "a")
        command = [*self.under, self.bench.gateway, "serve", "--config", config]
        process = spawn(self.bench, command, self.cpus, stdout=subprocess.PIPE, stderr=self.log, text=True)
        ready = process.stdout.readline()
        if "listen=" not in ready:
            raise SystemExit(f"{self.name} does not start: see\n" + open(self.log.name).read())
        port = int(re.search(r"listen=\S+:(\d+)", ready)[1])
        self.ports = {"https": port} if "+tls" in self.name else {"http": port, "http2": port}
        return process

    def peer(self):
        self.ports = {"http": free_port()}
        if self.name == "nginx":
            self.ports.update(http2=free_port(), https=free_port())
        ports = {protocol.upper(): port for protocol, port in self.ports.items()}
        config = self.bench.file({"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "varnish": "varnish.vcl"}[self.name], **ports)
        command = {
            "haproxy": ["haproxy", "-db", "-f", config],
            "nginx": ["nginx", "-c", config],
            # Threads for 512 connections from the start. Of its log in shared memory nothing is written that is for requests.
            "varnish": ["varnishd", "-F", "-j", "none", "-n", self.bench.dir + "/varnish", "-a", f"127.0.0.1:{self.ports['http']}", "-f",
                        config, "-s", "malloc,1g", "-p", "thread_pools=1", "-p", "thread_pool_min=600", "-p", "thread_pool_max=1200",
                        "-p", "timeout_idle=300", "-p", "vsl_mask=" + VARNISH_QUIET],
        }[self.name]
        self.log = open(f"{self.bench.dir}/{self.name}.log", "a")
        return spawn(self.bench, [*self.under, *command], self.cpus, stdout=self.log, stderr=self.log)

    def wait_for(self, port):
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not listen:\n" + open(self.log.name).read())

    def end(self):
        end(self.process)

    def pids(self):
        found = [self.process.pid]
        for pid in found:
            for task in os.listdir(f"/proc/{pid}/task"):
                found += map(int, open(f"/proc/{pid}/task/{task}/children").read().split())
        return found

    def cpu(self):
        """Seconds of CPU that its processes have taken."""
        stats = [open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split() for pid in self.pids()]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS

    def read_all(self, protocol):
        """Reads every number once, over eight connections, and asserts that each answer is that number's."""
        tls = {"context": ssl.create_default_context(cafile=self.bench.dir + "/certificate.pem")} if protocol == "https" else {}
        kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection

        def read(numbers):
            connection = kind("127.0.0.1", self.ports[protocol], **tls)
            for n in numbers:
                # Some have the host in their cache's key: the load's own.
                connection.request("GET", PATH % n, headers={"Host": "127.0.0.1", "Authorization": "Bearer " + KEY})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or b'"+1%d"' % n not in body:
                    raise SystemExit(f"{self.name} gives a wrong answer for +1{n}: {answer.status} {body!r}")

        with ThreadPoolExecutor(8) as readers:
            list(readers.map(read, [self.bench.numbers[k::8] for k in range(8)]))

    def measure(self, case, secs):
        """What so many seconds of a case show."""
        self.log.truncate(0)
        cpus = self.cpus if case.load_cpus is None else case.load_cpus
        children = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        upstream, used, generator = self.bench.asked(), self.cpu(), children()
        load = self.h2load if case.protocol == "http2" else self.wrk
        run = load(case, secs, cpus)
        used, generator = self.cpu() - used, children() - generator
        n, took = run["requests"], run.pop("seconds")
        return {**run, "cpu": used / n * 1e6, "rps": n / took, "busy": used / took * 100, "generator": generator / took * 100,
                "misses": self.bench.asked() - upstream}

    def wrk(self, case, secs, cpus):
        url = f"{case.protocol}://127.0.0.1:{self.ports[case.protocol]}"
        options = [f"-t{len(cpus)}", f"-c{case.conns * len(cpus)}", f"-d{secs}s", "--timeout", "10s", "-s", HERE + "/load.lua"]
        out = self.bench.generate(["wrk", *options, url, "--", self.bench.paths[case.paths], KEY], cpus)
        return json.loads(out.splitlines()[-1])

    def h2load(self, case, secs, cpus):
        log = self.bench.dir + "/h2load.log"
        with contextlib.suppress(FileNotFoundError):
            os.remove(log)
        uris = self.bench.dir + "/uris"
        with open(uris, "w") as file:
            file.writelines(f"http://127.0.0.1:{self.ports['http2']}{path}" for path in open(self.bench.paths[case.paths]))
        streams = 64 // case.conns
        command = ["h2load", "-t1", f"-c{case.conns}", f"-m{streams}", f"-D{secs}", "-i", uris, f"--log-file={log}"]
        out = self.bench.generate(command + ["-H", "authorization: Bearer " + KEY], cpus)
        rows = [line.split("\t") for line in open(log)]
        times = sorted(int(row[2]) / 1000 for row in rows)
        at = lambda part: times[min(int(len(times) * part), len(times) - 1)]
        lost = sum(map(int, re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", out).groups()))
        began, ended = (int(row[0]) for row in (rows[0], rows[-1]))
        return {"requests": len(rows), "seconds": (ended - began) / 1e6, "p50": at(0.5), "p99": at(0.99), "p999": at(0.999),
                "errors": lost + sum(row[1] != "200" for row in rows)}


class Bench:
    """What all contestants share: the origin, the certificate, the numbers and the order in which they are asked for."""

    def __init__(self, gateway, numbers, ends):
        self.gateway, self.ends, self.servers, self.paths = gateway, ends, {}, {}
        self.dir = ends.enter_context(tempfile.TemporaryDirectory(prefix="peers-", dir="/dev/shm"))
        self.numbers = range(FIRST, FIRST + numbers)
        # The hundred most wanted of 10,000 numbers get half of all requests (Zipf, s = 1).
        weights = [1 / rank for rank in range(1, numbers + 1)]
        ranked = random.Random(1).sample(self.numbers, numbers)
        for name, wanted in (("zipf", random.Random(2).choices(ranked, weights, k=REQUESTS)), ("hot", [FIRST])):
            self.paths[name] = f"{self.dir}/{name}"
            with open(self.paths[name], "w") as file:
                file.writelines(PATH % n + "\n" for n in wanted)
        origin = spawn(self, [HERE + "/origin"], [1], stdout=subprocess.PIPE, text=True)
        self.origin = int(origin.stdout.readline())
        certificate = ["-keyout", self.dir + "/key.pem", "-out", self.dir + "/certificate.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                        "/CN=127.0.0.1", *certificate], check=True, capture_output=True)

    def file(self, template, name=None, **values):
        """A configuration, filled in: its path."""
        text, path = open(f"{HERE}/{template}").read(), f"{self.dir}/{name or template}"
        for mark, value in {"ORIGIN": self.origin, "DIR": self.dir, **values}.items():
            text = text.replace(f"@{mark}@", str(value))
        with open(path, "w") as file:
            file.write(text)
        return path

    def asked(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.origin)
        connection.request("GET", "/count")
        return int(connection.getresponse().read())

    def generate(self, command, cpus):
        return subprocess.run(["taskset", "-c", ",".join(map(str, cpus)), *command], check=True, stdout=subprocess.PIPE, text=True).stdout

    def server(self, name, protocol="http", under=()):
        """One that runs, with every number in its cache."""
        if name not in self.servers:
            self.servers[name] = server = Server(self, name, under)
            protocol = protocol.replace("http2", "http")
            server.read_all(protocol)
            upstream = self.asked()
            server.read_all(protocol)
            if self.asked() != upstream:
                raise SystemExit(f"{name} went upstream {self.asked() - upstream} times for what it had read")
        return self.servers[name]


def output(*command):
    """The first line that a command prints; nothing, if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        return out.splitlines()[0].strip() if out else ""
    return ""


def machine():
    """When, what and where, for the head of a table."""
    model = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    commit = output("git", "-C", ROOT, "rev-parse", "--short", "HEAD") or "unknown"
    changed = " with changes" if output("git", "-C", ROOT, "status", "--porcelain", "--", "src", "Cargo.lock") else ""
    return (f"{time.strftime('%Y-%m-%d')}, commit `{commit}`{changed}; {os.cpu_count()} cores ({model[1] if model else platform.machine()}), "
            f"Linux {platform.release()}")


def arguments(doc, **numbers):
    """A parser of what these tools share."""
    target = os.environ.get("CARGO_TARGET_DIR", ROOT + "/target")
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default=target + "/release/reputation-gateway", metavar="BINARY")
    for name, default in numbers.items():
        parser.add_argument("--" + name, type=int, default=default)
    return parser


@contextlib.contextmanager
def bench(gateway, numbers):
    """What contestants share, for as long as they run."""
    if not shutil.which(gateway):
        raise SystemExit(f"no gateway at {gateway}: cargo build --release")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that what was started is ended
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with contextlib.ExitStack() as ends:
        yield Bench(gateway, numbers, ends)
