//! Redis, RabbitMQ and NATS of this machine, each on a port of its own with its files in a directory of its own, killed,
//! stopped and started again as a test wants it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::directory;

/// How long a broker may take to start; RabbitMQ needs several seconds of a core.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Files of a certificate for localhost and its key.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes one in a directory of the test.
    pub(crate) fn make(test: &str) -> Self {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let directory = directory(test);
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { certificate, key }
    }
}

/// A broker's process, and how to start it again where it was.
pub(crate) struct Broker {
    kind: Kind,
    pub(crate) port: u16,
    /// Where Redis and RabbitMQ take TLS, and NATS nothing else, if they have a certificate.
    pub(crate) tls: Option<(u16, Certificate)>,
    directory: PathBuf,
    process: Option<Child>,
    /// Erlang's port mapper, for RabbitMQ.
    mapper: Option<(Child, u16)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis,
    RabbitMq,
    Nats,
}

impl Broker {
    /// A Redis that keeps what it has acknowledged, also when it is killed.
    pub(crate) fn redis(test: &str) -> Self {
        Self::absent(Kind::Redis, test).started()
    }

    /// The same, not yet started.
    pub(crate) fn absent_redis(test: &str) -> Self {
        Self::absent(Kind::Redis, test)
    }

    /// A Redis that takes TLS too, and has a user `limited`, password `secret`, who may add to streams and nothing else.
    pub(crate) fn redis_with_tls(test: &str, certificate: Certificate) -> Self {
        Self::absent(Kind::Redis, test).with_tls(certificate).started()
    }

    /// A RabbitMQ that takes TLS too, and messages of up to 200,000 bytes.
    pub(crate) fn rabbitmq(test: &str, certificate: Certificate) -> Self {
        Self::absent(Kind::RabbitMq, test).with_tls(certificate).started()
    }

    pub(crate) fn nats(test: &str) -> Self {
        Self::absent(Kind::Nats, test).started()
    }

    /// A NATS that takes TLS only, from the user `limited`, password `secret`.
    pub(crate) fn nats_with_tls(test: &str, certificate: Certificate) -> Self {
        Self::absent(Kind::Nats, test).with_tls(certificate).started()
    }

    fn with_tls(mut self, certificate: Certificate) -> Self {
        let port = if self.kind == Kind::Nats { self.port } else { free_port() };
        self.tls = Some((port, certificate));
        self
    }

    fn absent(kind: Kind, test: &str) -> Self {
        Self { kind, port: free_port(), tls: None, directory: directory(test), process: None, mapper: None }
    }

    fn started(mut self) -> Self {
        self.start();
        self
    }

    /// Starts it, and waits until it serves.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{:?} runs already", self.kind);
        let mut command = match self.kind {
            Kind::Redis => self.redis_command(),
            Kind::RabbitMq => self.rabbitmq_command(),
            Kind::Nats => self.nats_command(),
        };
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("output")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; see .ci/deps")));
        let began = Instant::now();
        while !self.serves() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            let output = || fs::read_to_string(self.directory.join("output")).unwrap_or_default();
            assert!(ended.is_none(), "{:?} ended: {}", self.kind, output());
            assert!(began.elapsed() < START_WITHIN, "{:?} does not start: {}", self.kind, output());
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    pub(crate) fn url(&self) -> String {
        match self.kind {
            Kind::Redis => format!("redis://127.0.0.1:{}/0?client_name=tests&pool_size=10", self.port),
            Kind::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{}/", self.port),
            Kind::Nats => format!("nats://127.0.0.1:{}", self.port),
        }
    }

    /// The address for TLS, as the user with the least rights.
    pub(crate) fn tls_url(&self) -> String {
        let (port, _) = self.tls.as_ref().expect("it takes TLS");
        match self.kind {
            Kind::Redis => format!("rediss://limited:secret@localhost:{port}/0?client_name=tests"),
            Kind::RabbitMq => format!("amqps://guest:guest@localhost:{port}"),
            Kind::Nats => format!("tls://limited:secret@localhost:{port}"),
        }
    }

    /// Kills it as the machine's end would.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Stops it in the middle of whatever it does, until [`Broker::go_on`].
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill(Pid::from_raw(process.id() as i32), signal).unwrap();
    }

    /// Whether it answers as a client expects it.
    fn serves(&self) -> bool {
        match self.kind {
            Kind::Redis => redis_connection(self.port).is_ok(),
            // It writes the file when everything stands.
            Kind::RabbitMq => TcpStream::connect(self.address()).is_ok() && self.rabbitmq_says_ready(),
            Kind::Nats => TcpStream::connect(self.address()).is_ok(),
        }
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn redis_command(&self) -> Command {
        let mut command = ending_with_us("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "yes"]);
        command.arg("--dir").arg(&self.directory);
        if let Some((port, Certificate { certificate, key })) = &self.tls {
            command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
            command.args(["--user", "limited", "on", ">secret", "~*", "+xadd"]);
        }
        command
    }

    fn nats_command(&self) -> Command {
        let mut command = ending_with_us("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string()]);
        if let Some((_, Certificate { certificate, key })) = &self.tls {
            command.arg("--tls").arg("--tlscert").arg(certificate).arg("--tlskey").arg(key);
            command.args(["--user", "limited", "--pass", "secret"]);
        }
        command
    }

    /// Everything that it would share with another RabbitMQ of this machine is its own, down to the port mapper.
    fn rabbitmq_command(&mut self) -> Command {
        let (_, mapper_port) = self.mapper.get_or_insert_with(|| {
            let port = free_port();
            let mut epmd = ending_with_us("epmd");
            epmd.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
            let epmd = epmd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            (epmd.unwrap_or_else(|error| panic!("epmd: {error}; see .ci/deps")), port)
        });
        let plugins = self.directory.join("enabled_plugins");
        fs::write(&plugins, "[].\n").unwrap();
        let mut settings = format!("listeners.tcp.1 = 127.0.0.1:{}\nmax_message_size = 200000\n", self.port);
        if let Some((port, Certificate { certificate, key })) = &self.tls {
            settings += &format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n",
                certificate.display(),
                key.display()
            );
        }
        fs::write(self.directory.join("rabbitmq.conf"), settings).unwrap();
        // Debian's own command changes to the user rabbitmq.
        let mut command = ending_with_us("/usr/lib/rabbitmq/bin/rabbitmq-server");
        let at = |name: &str| self.directory.join(name);
        command
            .env("HOME", &self.directory)
            .env("ERL_EPMD_PORT", mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("tests{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
            .env("RABBITMQ_LOG_BASE", at("log"))
            .env("RABBITMQ_PID_FILE", at("pid"))
            // One scheduler that does not spin: the cores are for the test.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none")
            // The script becomes the server, so that signals reach it.
            .env("RUNNING_UNDER_SYSTEMD", "1");
        command
    }

    fn rabbitmq_says_ready(&self) -> bool {
        let log = |entry: fs::DirEntry| fs::read_to_string(entry.path()).unwrap_or_default();
        let Ok(logs) = fs::read_dir(self.directory.join("log")) else { return false };
        let last_start = |log: String| log.rsplit("Starting RabbitMQ").next().unwrap_or_default().to_owned();
        logs.map(|entry| last_start(log(entry.unwrap()))).any(|log| log.contains("Server startup complete"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mapper = self.mapper.take().map(|(mapper, _)| mapper);
        for mut process in self.process.take().into_iter().chain(mapper) {
            // Failure means that it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A command whose process the kernel kills when the thread that started it ends, however that comes.
fn ending_with_us(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program.as_ref());
    command
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection to the Redis at that port, once it answers.
pub(crate) fn redis_connection(port: u16) -> redis::RedisResult<redis::Connection> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
    redis::cmd("PING").exec(&mut connection)?;
    Ok(connection)
}
