//! The configuration as its author meets it: what a file, the environment and flags give, and what each mistake is told.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod config_support;

use std::path::PathBuf;

use engine::config::{
    Config, Driver, EndpointConfig, LogFormat, LogLevel, Mode, Overrides, Place, Preset, ShardCount, SlowConsumer,
    Sources,
};
use proptest::prelude::*;

use config_support::{Scratch, from_file, problems, variables};

#[test]
fn the_repositorys_config_yaml_is_the_built_in_defaults() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let loaded = Sources { file: Some(file), ..Sources::default() }.load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(text, engine::commands::config::defaults(), "write it anew: ringrelay config > config.yaml");
}

#[test]
fn the_default_is_the_relay_preset_and_three_more_endpoints() {
    let more = [("/rooms/{topic}", Mode::Relay), ("/chat", Mode::Chat), ("/echo", Mode::Echo)];
    let mut expected = Preset::Relay.config();
    expected.endpoints.extend(more.map(|(path, mode)| EndpointConfig::new(path, mode)));
    assert_eq!(Config::default(), expected);
}

#[test]
fn the_presets_are_the_servers_they_replace() {
    for (preset, mode, port, metrics_port, path, demo_page, shutdown_timeout_ms, connections) in [
        (Preset::Relay, Mode::Relay, 8443, 9090, "/", true, 10_000, LogLevel::Debug),
        (Preset::Chat, Mode::Chat, 8080, 9090, "/ws", true, 10_000, LogLevel::Debug),
        (Preset::Echo, Mode::Echo, 3003, 9100, "/ws", false, 5_000, LogLevel::Info),
        (Preset::Gateway, Mode::Gateway, 5000, 9090, "/connect", false, 10_000, LogLevel::Debug),
    ] {
        let config = Sources { preset: Some(preset), ..Sources::default() }.load().unwrap().config;
        assert_eq!((config.server.port, config.metrics.port), (port, metrics_port), "{preset}");
        assert_eq!(config.server.demo_page, demo_page, "{preset}");
        assert_eq!(config.server.shutdown_timeout_ms, shutdown_timeout_ms, "{preset}");
        assert_eq!(config.log.connections, connections, "{preset}");
        assert_eq!(config.endpoints, [EndpointConfig::new(path, mode)], "{preset}");
    }
    assert_eq!(EndpointConfig::new("/ws", Mode::Chat).message_bytes_max, 512);
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    let mut unusual = Config::default();
    unusual.server.host = "::1".to_owned();
    unusual.server.shards = ShardCount::Count(3);
    unusual.server.cpus = vec![4, 0, 2];
    unusual.server.driver = Driver::IoUring;
    unusual.server.tls.enabled = true;
    unusual.server.tls.cert_file = "a \"quoted\": path\\é # not a comment.pem".to_owned();
    unusual.metrics.token = "null".to_owned();
    unusual.log.format = LogFormat::Json;
    unusual.endpoints[1].slow_consumer = SlowConsumer::Skip;
    unusual.endpoints[1].allowed_origins = vec!["same-origin".to_owned(), "https://example.org:8443".to_owned()];
    unusual.endpoints[2].subprotocols = vec!["chat.v1".to_owned(), "*".to_owned()];
    unusual.endpoints[2].messages_per_second_max = 0;
    let presets = [Preset::Relay, Preset::Chat, Preset::Echo, Preset::Gateway].map(Preset::config);
    for (index, config) in presets.into_iter().chain([Config::default(), unusual]).enumerate() {
        for (kind, yaml) in [("plain", config.to_yaml()), ("commented", config.to_commented_yaml("Test."))] {
            let file = Scratch::new(&format!("shown-{kind}-{index}.yaml"), &yaml);
            assert_eq!(from_file(&file).load().unwrap().config, config, "{yaml}");
        }
    }
}

#[test]
fn every_key_of_a_commented_file_has_a_comment() {
    for preset in [Preset::Relay, Preset::Chat, Preset::Echo, Preset::Gateway] {
        let yaml = preset.config().to_commented_yaml("Test.");
        for line in yaml.lines().filter(|line| line.contains(": ") && !line.starts_with('#')) {
            let comment = line.split_once("  # ").unwrap_or_else(|| panic!("no comment: {line}")).1;
            assert!(comment.len() > 10, "{line}");
        }
    }
}

#[test]
fn another_relays_file_works_as_it_is() {
    let text = "server:\n  port: 9443\n  tls:\n    enabled: false\n    cert_file: /etc/tls/a.pem\n    key_file: b.pem\nmetrics:\n  enabled: true\n  port: 9191\n";
    let file = Scratch::new("another.yaml", text);
    let mut expected = Config::default();
    expected.server.port = 9443;
    expected.server.tls.cert_file = "/etc/tls/a.pem".to_owned();
    expected.server.tls.key_file = "b.pem".to_owned();
    expected.metrics.port = 9191;
    assert_eq!(from_file(&file).load().unwrap().config, expected);
}

#[test]
fn empty_files_and_empty_sections_change_nothing() {
    for (name, text) in [("empty.yaml", ""), ("comment.yaml", "# nothing\n"), ("sections.yaml", "server:\nlog: {}\n")] {
        assert_eq!(from_file(&Scratch::new(name, text)).load().unwrap().config, Config::default(), "{text:?}");
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let text =
        "endpoints:\n  - &usual\n    path: /a\n    mode: relay\n    stall_ms: 200\n  - <<: *usual\n    path: /b\n";
    let config = from_file(&Scratch::new("anchors.yaml", text)).load().unwrap().config;
    let stall: Vec<_> = config.endpoints.iter().map(|endpoint| (endpoint.path.as_str(), endpoint.stall_ms)).collect();
    assert_eq!(stall, [("/a", 200), ("/b", 200)]);
}

#[test]
fn each_source_goes_over_the_one_before() {
    let file = Scratch::new("precedence.yaml", "server: {port: 1003, backlog: 3}\nlog: {level: warn}\n");
    let mut sources = Sources { preset: Some(Preset::Chat), ..Sources::default() };
    let port = |sources: &Sources| sources.load().unwrap().config.server.port;
    assert_eq!(port(&sources), 8080);
    sources.file = Some(file.0.clone());
    assert_eq!(port(&sources), 1003);
    sources.environment = variables(&[("PORT", "1004")]);
    assert_eq!(port(&sources), 1003, "PORT is for start and connect only");
    sources.port_variable = true;
    assert_eq!(port(&sources), 1004);
    sources.environment.extend(variables(&[("RINGRELAY_SERVER__PORT", "1005"), ("RINGRELAY_LOG__LEVEL", "error")]));
    assert_eq!(port(&sources), 1005);
    sources.overrides = Overrides { port: Some(1006), ..Overrides::default() };
    // Platforms set it to what is no port; the flag makes up for that.
    sources.environment[0].1 = "tcp://10.0.0.1:8443".to_owned();
    let loaded = sources.load().unwrap();
    assert_eq!(loaded.config.server.port, 1006);
    assert_eq!(loaded.config.log.level, LogLevel::Error);
    assert_eq!(loaded.config.server.backlog, 3);
    assert_eq!(loaded.config.endpoints, Preset::Chat.config().endpoints);
    assert_eq!(loaded.origin.to_string(), format!("preset:chat+{}", file.0.display()));
}

#[test]
fn every_flag_has_its_setting() {
    let overrides = Overrides {
        host: Some("127.0.0.1".to_owned()),
        port: Some(0),
        metrics_port: Some(0),
        shards: Some(ShardCount::Count(2)),
        driver: Some(Driver::Epoll),
        log_format: Some(LogFormat::Json),
        log_level: Some(LogLevel::Trace),
    };
    let config = Sources { preset: Some(Preset::Relay), overrides, ..Sources::default() }.load().unwrap().config;
    let mut expected = Preset::Relay.config();
    expected.server.host = "127.0.0.1".to_owned();
    expected.server.port = 0;
    expected.metrics.port = 0;
    expected.server.shards = ShardCount::Count(2);
    expected.server.driver = Driver::Epoll;
    expected.log.format = LogFormat::Json;
    expected.log.level = LogLevel::Trace;
    assert_eq!(config, expected);
}

#[test]
fn the_environment_reaches_every_section_and_type() {
    let environment = variables(&[
        ("RINGRELAY_SERVER__HOST", "12"),
        ("RINGRELAY_SERVER__TLS__ENABLED", "true"),
        ("RINGRELAY_SERVER__CPUS", "0,1"),
        ("RINGRELAY_SERVER__SHARDS", "auto"),
        ("RINGRELAY_METRICS__TOKEN", "123"),
        ("RINGRELAY_LOG__FORMAT", "json"),
        // What Kubernetes puts beside a service called ringrelay is no setting.
        ("RINGRELAY_PORT", "tcp://10.0.0.1:8443"),
        ("RINGRELAY_SERVICE_HOST", "10.0.0.1"),
    ]);
    let config = Sources { preset: Some(Preset::Relay), environment, ..Sources::default() }.load().unwrap().config;
    let mut expected = Preset::Relay.config();
    expected.server.host = "12".to_owned();
    expected.server.tls.enabled = true;
    expected.server.cpus = vec![0, 1];
    expected.metrics.token = "123".to_owned();
    expected.log.format = LogFormat::Json;
    assert_eq!(config, expected);
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    for (name, value, expected) in [
        ("RINGRELAY_SERVER__PORT", "70000", "server.port: 70000 is out of range: allowed are 0 to 65535"),
        ("RINGRELAY_SERVER__PROT", "1", "server.prot: unknown key; did you mean port?"),
        ("RINGRELAY_SERVR__PORT", "1", "servr.port: unknown key; did you mean server?"),
        ("RINGRELAY_SERVER__TLS__ENABLED", "maybe", "server.tls.enabled: \"maybe\" is not true or false"),
        ("RINGRELAY_SERVER__SHARDS", "65", "server.shards: 65 is out of range: allowed are 1 to 64"),
        (
            "RINGRELAY_ENDPOINTS__0__PATH",
            "/",
            "endpoints.0.path: endpoints cannot be set by the environment; use a file",
        ),
        ("PORT", "http", "server.port: \"http\" is not a whole number; allowed are 0 to 65535"),
    ] {
        let environment = variables(&[(name, value)]);
        let sources = Sources { preset: Some(Preset::Chat), port_variable: true, environment, ..Sources::default() };
        let error = sources.load().unwrap_err().to_string();
        assert_eq!(error, format!("environment variable {name}: {expected}"));
    }
}

/// A file's text and the one problem that it has.
type Mistake = (&'static str, &'static str);

#[rustfmt::skip]
const IN_SECTIONS: &[Mistake] = &[
    ("server:\n  port: 70000\n", "2: server.port: 70000 is out of range: allowed are 0 to 65535"),
    ("server:\n  port: -1\n", "2: server.port: -1 is out of range: allowed are 0 to 65535"),
    ("server:\n  port: http\n", "2: server.port: \"http\" is not a whole number; allowed are 0 to 65535"),
    ("server:\n  port:\n", "2: server.port: an empty value is not a whole number; allowed are 0 to 65535"),
    ("server:\n  port: [1]\n", "2: server.port: a list is not a whole number; allowed are 0 to 65535"),
    ("server:\n\n  shards: 0\n", "3: server.shards: 0 is out of range: allowed are 1 to 64"),
    ("server:\n  shards: many\n", "2: server.shards: \"many\" is not auto or a whole number from 1 to 64"),
    ("server:\n  host: 1\n", "2: server.host: 1 is not a text; quote it"),
    ("server:\n  host: \"\"\n", "2: server.host: must not be empty"),
    ("server:\n  cpus: [0, 1, 0]\n", "2: server.cpus: core 0 is named twice"),
    ("server:\n  driver: iouring\n", "2: server.driver: \"iouring\" is not one of auto, io_uring, epoll; did you mean io_uring?"),
    ("server:\n  demo_page: 1\n", "2: server.demo_page: 1 is not true or false"),
    ("server:\n  shutdown_timeout_ms: 0\n", "2: server.shutdown_timeout_ms: 0 is out of range: allowed are 1 to 3600000"),
    ("log:\n  level: loud\n", "2: log.level: \"loud\" is not one of error, warn, info, debug, trace"),
    ("metrics:\n  token: two words\n", "2: metrics.token: must be visible ASCII characters without spaces; \" \" is not"),
    ("metrics:\n  port: 8443\n", "2: metrics.port: 8443 is server.port too; the admin port needs its own"),
];

#[rustfmt::skip]
const UNKNOWN_OR_MISSHAPEN: &[Mistake] = &[
    ("server:\n  host: a\n  prot: 1\n", "3: server.prot: unknown key; did you mean port?"),
    ("server:\n  tls:\n    cert_fil: a\n", "3: server.tls.cert_fil: unknown key; did you mean cert_file?"),
    ("sever:\n  port: 1\n", "1: sever: unknown key; did you mean server?"),
    ("endpoint: []\n", "1: endpoint: unknown key; did you mean endpoints?"),
    ("port: 1\n", "1: port: unknown key; did you mean server.port?"),
    ("server:\n  stall_ms: 1\n", "2: server.stall_ms: unknown key; did you mean endpoints[].stall_ms?"),
    ("log:\n  banana: 1\n", "2: log.banana: unknown key; known here are format, level, connections"),
    ("1: 2\n", "1: 1 is not a key: keys are texts"),
    ("server: 1\n", "1: server: 1 instead of a mapping of keys to values"),
    ("just text\n", "1: \"just text\" instead of sections such as server:"),
    ("endpoints: []\n", "1: endpoints: an empty list instead of a list of endpoints"),
    ("endpoints:\n  path: /\n", "1: endpoints: a mapping instead of a list of endpoints"),
    ("endpoints:\n  - /\n", "2: endpoints[0]: \"/\" instead of an endpoint such as {path: /, mode: relay}"),
];

#[rustfmt::skip]
const IN_ENDPOINTS: &[Mistake] = &[
    ("endpoints:\n  - path: /\n    mode: rely\n", "3: endpoints[0].mode: \"rely\" is not one of relay, chat, echo, gateway; did you mean relay?"),
    ("endpoints:\n  - {path: /, mode: relay}\n  - mode: echo\n", "3: endpoints[1]: path is missing"),
    ("endpoints:\n  - mode: echo\n    path: ws\n", "3: endpoints[0].path: \"ws\" must start with /"),
    ("endpoints:\n  - mode: relay\n    path: /a{b}\n", "3: endpoints[0].path: \"/a{b}\": \"a{b}\" is no capture: it is a whole segment like {topic}, of letters, digits and _"),
    ("endpoints:\n  - {path: /a, mode: relay}\n  - mode: echo\n    path: /a\n", "4: endpoints[1].path: /a is the path of endpoints[0] already (/a)"),
    ("endpoints:\n  - {path: \"/a/{x}\", mode: relay}\n  - {path: \"/a/{y}\", mode: echo}\n", "3: endpoints[1].path: /a/{y} is the path of endpoints[0] already (/a/{x})"),
    ("endpoints:\n  - path: /\n    mode: relay\n    message_chars_max: 9\n", "4: endpoints[0].message_chars_max: only endpoints of mode chat have this key, not relay"),
    ("endpoints:\n  - path: /\n    mode: relay\n    set_tags: {a: b}\n", "4: endpoints[0].set_tags: only endpoints of mode gateway have this key, not relay"),
    ("endpoints:\n  - path: /\n    mode: relay\n    topics_max: 262145\n", "4: endpoints[0].topics_max: 262145 is out of range: allowed are 1 to 262144"),
    ("endpoints:\n  - path: /\n    mode: relay\n    pong_wait_ms: 54000\n", "4: endpoints[0].pong_wait_ms: 54000 must be more than ping_interval_ms, which is 54000, or 0 for never"),
    ("endpoints:\n  - path: /\n    mode: relay\n    ping_interval_ms: 60000\n", "4: endpoints[0].ping_interval_ms: 60000 must be less than pong_wait_ms, which is 60000, or 0 for none"),
    ("endpoints:\n  - path: /\n    mode: relay\n    slow_consumer: kick\n", "4: endpoints[0].slow_consumer: \"kick\" is not one of disconnect, skip"),
    ("endpoints:\n  - path: /\n    mode: relay\n    allowed_origins: [example.org]\n", "4: endpoints[0].allowed_origins: \"example.org\" is no origin: allowed are *, same-origin, null and ones like https://example.org"),
    ("endpoints:\n  - path: /\n    mode: relay\n    subprotocols: [a, a]\n", "4: endpoints[0].subprotocols: \"a\" is named twice"),
    ("endpoints:\n  - path: /\n    mode: relay\n    messag_bytes_max: 1\n", "4: endpoints[0].messag_bytes_max: unknown key; did you mean message_bytes_max?"),
];

#[test]
fn mistakes_in_a_file_have_their_line_their_key_and_what_is_allowed() {
    for (index, (text, expected)) in [IN_SECTIONS, UNKNOWN_OR_MISSHAPEN, IN_ENDPOINTS].concat().iter().enumerate() {
        assert_eq!(problems(&format!("mistake-{index}.yaml"), text), [*expected], "{text}");
    }
}

#[test]
fn pings_may_be_off_on_either_side() {
    let text = "endpoints:\n  - {path: /a, mode: relay, ping_interval_ms: 0, pong_wait_ms: 5}\n  - {path: /b, mode: relay, pong_wait_ms: 0}\n";
    let config = from_file(&Scratch::new("pings.yaml", text)).load().unwrap().config;
    assert_eq!(config.endpoints.len(), 2);
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let found = problems("several.yaml", "server:\n  port: x\n  hots: y\nendpoints:\n  - path: z\n    mode: relay\n");
    let lines: Vec<_> = found.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["2", "3", "5"], "{found:?}");
}

#[test]
fn what_is_no_yaml_or_no_file_is_told_too() {
    let found = problems("broken.yaml", "server:\n  port: 1\n  port: 2\n");
    assert!(found[0].starts_with(|c: char| c.is_ascii_digit()) && found[0].contains("duplicate"), "{found:?}");
    let found = problems("open.yaml", "server: {port: 1\n");
    assert!(found[0].starts_with(|c: char| c.is_ascii_digit()), "{found:?}");
    let sources = Sources { file: Some(PathBuf::from("/nonexistent/ringrelay.yaml")), ..Sources::default() };
    let error = sources.load().unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/ringrelay.yaml: cannot be opened: No such file"), "{error}");
    let directory = Sources { file: Some(PathBuf::from("/")), ..Sources::default() };
    assert!(directory.load().unwrap_err().to_string().starts_with("/: cannot be read: "));
}

#[test]
fn a_mark_at_the_start_of_the_file_and_a_document_mark_are_no_mistakes() {
    let config = from_file(&Scratch::new("mark.yaml", "\u{feff}---\nserver: {port: 7}\n")).load().unwrap().config;
    assert_eq!(config.server.port, 7);
}

proptest! {
    /// A file that somebody mistyped gives a configuration or problems with a line of the file, and never a panic.
    #[test]
    fn a_mistyped_file_is_read_or_told_with_a_line_that_exists(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ \\t\\n:,\\[\\]{}\"'&*!|>#~a0.-]{0,3}", 0usize..4), 1..4),
    ) {
        let mut text = engine::commands::config::defaults();
        for (at, inserted, removed) in edits {
            let mut characters: Vec<char> = text.chars().collect();
            let at = at.index(characters.len());
            let end = (at + removed).min(characters.len());
            characters.splice(at..end, inserted.chars());
            text = characters.into_iter().collect();
        }
        let file = Scratch::new("mistyped.yaml", &text);
        if let Err(error) = from_file(&file).load() {
            prop_assert!(!error.problems.is_empty());
            for problem in error.problems {
                let Place::File { line, .. } = problem.place else { continue };
                prop_assert!((1..=text.lines().count() + 1).contains(&line), "{problem:?}");
            }
        }
    }
}

#[test]
fn endpoint_lines_tell_the_path_the_mode_and_what_is_unusual() {
    let mut config = Config::default();
    config.endpoints[1].slow_consumer = SlowConsumer::Skip;
    config.endpoints[3].message_bytes_max = 4096;
    assert_eq!(
        config.endpoint_lines(),
        [
            "Endpoint / mode=relay",
            "Endpoint /rooms/{topic} mode=relay slow_consumer=skip",
            "Endpoint /chat mode=chat",
            "Endpoint /echo mode=echo message_bytes_max=4096",
        ]
    );
}
