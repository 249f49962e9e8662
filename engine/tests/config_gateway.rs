//! The gateway's settings: wsgateway's own files, what they may leave out, and what each mistake is told.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod config_support;

use std::collections::BTreeMap;

use engine::config::{Config, EndpointConfig, Mode, Preset, Sources};

use config_support::{Scratch, from_file, problems, variables};

/// As wsgateway ships it.
const WSGATEWAYS: &str = r#"listen_addr: 0.0.0.0:5000
internal_endpoint_access_whitelist:
  - 127.0.0.1/8
  - 192.168.0.0/16
  - 10.0.0.0/8
  - 172.16.0.0/12
  - ::1/128
  - fc00::/7
connection_redis_sync:
  # Connection state and tags updated here to the hash key connection:<id>
  addr: redis://localhost:6379/0?client_name=wsgateway
stream_redis:
  # open/close/message events streamed here
  addr: redis://localhost:6379/0?client_name=wsgatewaystream&pool_size=1000
  stream_name: connectionevents
max_message_size_kb: 1024
endpoints:
  - path: /connect
    set_tags:
      foo: bar
      other: tag
    stream_include_tags:
      - foo
      - group
    max_message_size_kb: 1024
    json_extract_vars:
      command: "command"
      other: "data.actionRef"

  - path: /connect/v2
    set_tags:
      version: 2
    stream_include_tags:
      - version
      - group
prometheus:
  enabled: true
"#;

fn load(name: &str, text: &str) -> Config {
    from_file(&Scratch::new(name, text)).load().unwrap_or_else(|error| panic!("{text}\n{error}")).config
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables(pairs).into_iter().collect()
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn wsgateways_own_file_works_as_it_is() {
    let mut expected = Preset::Gateway.config();
    (expected.server.host, expected.server.port) = ("0.0.0.0".to_owned(), 5000);
    expected.internal_endpoint_access_whitelist =
        list(&["127.0.0.1/8", "192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "::1/128", "fc00::/7"]);
    expected.connection_redis_sync.addr = "redis://localhost:6379/0?client_name=wsgateway".to_owned();
    expected.stream_redis.addr = "redis://localhost:6379/0?client_name=wsgatewaystream&pool_size=1000".to_owned();
    let endpoint = |path| EndpointConfig {
        message_bytes_max: 1 << 20,
        frame_bytes_max: 1 << 20,
        ..EndpointConfig::new(path, Mode::Gateway)
    };
    expected.endpoints = vec![
        EndpointConfig {
            set_tags: map(&[("foo", "bar"), ("other", "tag")]),
            stream_include_tags: list(&["foo", "group"]),
            json_extract_vars: map(&[("command", "command"), ("other", "data.actionRef")]),
            ..endpoint("/connect")
        },
        EndpointConfig {
            set_tags: map(&[("version", "2")]),
            stream_include_tags: list(&["version", "group"]),
            ..endpoint("/connect/v2")
        },
    ];
    let config = load("wsgateway.yml", WSGATEWAYS);
    assert_eq!(config, expected);
    assert!(!config.server.demo_page, "read over the gateway preset");
    assert_eq!(load("wsgateway-shown.yaml", &config.to_yaml()), config);
}

#[test]
fn a_listen_address_is_a_host_and_a_port() {
    for (text, host, port) in [
        ("0.0.0.0:5000", "0.0.0.0", 5000),
        ("\":5000\"", "0.0.0.0", 5000),
        ("\"[::]:5001\"", "::", 5001),
        ("localhost:0", "localhost", 0),
    ] {
        let config = load("listen.yaml", &format!("listen_addr: {text}\n"));
        assert_eq!((config.server.host.as_str(), config.server.port), (host, port), "{text}");
    }
}

#[test]
fn an_endpoints_size_goes_over_the_one_for_all() {
    let text = "max_message_size_kb: 64\nendpoints:\n  - {path: /all, mode: gateway}\n  - {path: /own, mode: gateway, max_message_size_kb: 2}\n  - {path: /bytes, mode: gateway, message_bytes_max: 9}\n  - {path: /zero, mode: gateway, max_message_size_kb: 0}\n  - {path: /relay, mode: relay}\n";
    let config = load("sizes.yaml", text);
    let sizes: Vec<_> = config.endpoints.iter().map(|it| (it.message_bytes_max, it.frame_bytes_max)).collect();
    let (default, relay) = (128 << 20, 16 << 20);
    assert_eq!(sizes, [(65536, 65536), (2048, 2048), (9, default), (65536, 65536), (relay, relay)]);
    let file = Scratch::new("size-only.yaml", "max_message_size_kb: 1\n");
    let config = Sources { preset: Some(Preset::Gateway), ..from_file(&file) }.load().unwrap().config;
    assert_eq!(config.endpoints[0].message_bytes_max, 1024);
    let config = load("no-size.yaml", "listen_addr: \":1\"\nmax_message_size_kb: 0\nendpoints: [{path: /a}]\n");
    assert_eq!(config.endpoints[0].message_bytes_max, default);
}

#[test]
fn an_endpoint_without_a_mode_is_a_gateway() {
    for text in [
        "endpoints: [{path: /a}]\n",
        "server: {port: 5001}\nendpoints: [{path: /a}]\n",
        "prometheus: {enabled: false}\nendpoints: [{path: /a}]\n",
        "endpoints: [{path: /a, set_tags: {a: b}}]\n",
        "endpoints: [{path: /a, max_message_size_kb: 1}]\n",
        "endpoints: [{path: /a, stream_include_tags: []}, {path: /b, mode: relay}]\n",
    ] {
        assert_eq!(load("mode.yaml", text).endpoints[0].mode, Mode::Gateway, "{text}");
    }
    let file = Scratch::new("mode-preset.yaml", "endpoints: [{path: /a}]\n");
    let sources = Sources { preset: Some(Preset::Gateway), ..from_file(&file) };
    assert_eq!(sources.load().unwrap().config.endpoints, [EndpointConfig::new("/a", Mode::Gateway)]);
    assert_eq!(problems("path-none.yaml", "endpoints: [{mode: relay}]\n"), ["1: endpoints[0]: path is missing"]);
}

#[test]
fn only_a_file_without_modes_is_read_over_the_gateway_preset() {
    let config = load("shape.yaml", "stream_redis: {max_len: 5}\nendpoints: [{path: /a}]\n");
    assert_eq!((config.server.port, config.server.demo_page), (5000, false));
    let config = load("ours.yaml", "internal_endpoint_access_whitelist: []\nendpoints: [{path: /, mode: relay}]\n");
    assert_eq!((config.server.port, config.server.demo_page), (8443, true));
    assert_eq!(config.internal_endpoint_access_whitelist, [""; 0]);
    let config = load("beside.yaml", "server: {port: 5001}\nstream_redis: {max_len: 5}\n");
    assert_eq!((config.endpoints, config.server.demo_page), (Config::default().endpoints, true));
    let config = load("whole.yaml", "stream_redis: {max_len: 5}\n");
    assert_eq!((config.endpoints, config.server.demo_page), (Preset::Gateway.config().endpoints, false));
}

#[test]
fn scalars_are_texts_as_they_stand_in_the_file_and_nothing_says_nothing() {
    let text = "stream_redis:\n  addr:\n  stream_name: 007\nstream_amqp: {queue: true, routing_key: 1.10, headers: {x-n: 1e3}}\nendpoints:\n  - path: /a\n    set_tags: {int: 2, float: 1.10, hex: 0x1F, on: true, none: , 5: five, empty: \"\"}\n    stream_include_tags: [1, false, a]\n    json_extract_vars: {n: 0.10}\n  - path: /b\n    set_tags:\n    stream_include_tags:\n    json_extract_vars:\n";
    let config = load("scalars.yaml", text);
    assert_eq!(config.stream_redis.addr, "");
    assert_eq!(config.stream_redis.stream_name, "007");
    assert_eq!((config.stream_amqp.queue.as_str(), config.stream_amqp.routing_key.as_str()), ("true", "1.10"));
    let [a, b] = &config.endpoints[..] else { panic!("{:?}", config.endpoints) };
    let tags = map(&[("int", "2"), ("float", "1.10"), ("hex", "0x1F"), ("on", "true"), ("5", "five")]);
    assert_eq!(a.set_tags, tags, "an empty value is no tag");
    assert_eq!(a.stream_include_tags, ["1", "false", "a"]);
    assert_eq!(a.json_extract_vars, map(&[("n", "0.10")]));
    assert_eq!(*b, EndpointConfig::new("/b", Mode::Gateway));
    assert_eq!(load("scalars-shown.yaml", &config.to_yaml()), config);
}

#[test]
fn the_environment_reaches_the_gateways_settings() {
    let environment = variables(&[
        ("RINGRELAY_INTERNAL_ENDPOINT_ACCESS_WHITELIST", "10.1.2.3/8,fc00::/7"),
        ("RINGRELAY_CONTROL_BODY_BYTES_MAX", "1000"),
        ("RINGRELAY_PROMETHEUS__ENABLED", "false"),
        ("RINGRELAY_CONNECTION_REDIS_SYNC__ADDR", "redis://state"),
        ("RINGRELAY_STREAM_REDIS__STREAM_NAME", "7"),
        ("RINGRELAY_STREAM_AMQP__HEADERS", "a=1,b=2"),
        ("RINGRELAY_STREAM_WEBHOOK__RETRIES_MAX", "0"),
        // What Kubernetes puts beside a service called ringrelay.
        ("RINGRELAY_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
    ]);
    let config = Sources { preset: Some(Preset::Gateway), environment, ..Sources::default() }.load().unwrap().config;
    let mut expected = Preset::Gateway.config();
    expected.internal_endpoint_access_whitelist = list(&["10.1.2.3/8", "fc00::/7"]);
    expected.control_body_bytes_max = 1000;
    expected.prometheus.enabled = false;
    expected.connection_redis_sync.addr = "redis://state".to_owned();
    expected.stream_redis.stream_name = "7".to_owned();
    expected.stream_amqp.headers = "a=1,b=2".into();
    expected.stream_webhook.retries_max = 0;
    assert_eq!(config, expected);
}

#[rustfmt::skip]
const MISTAKES: &[(&str, &str)] = &[
    ("listen_addr: 5000\n", "1: listen_addr: 5000 is not host:port, such as 0.0.0.0:5000, :5000 or [::]:5000"),
    ("listen_addr: \"::1:5000\"\n", "1: listen_addr: \"::1:5000\" is not host:port, such as 0.0.0.0:5000, :5000 or [::]:5000"),
    ("listen_addr: a:70000\n", "1: listen_addr: \"a:70000\" is not host:port, such as 0.0.0.0:5000, :5000 or [::]:5000; the port is a number from 0 to 65535"),
    ("server: {port: 1}\nlisten_addr: a:1\n", "2: listen_addr: says the same as server.port; name only one of them"),
    ("internal_endpoint_access_whitelist:\n  - 10.0.0.0/33\n", "1: internal_endpoint_access_whitelist: \"10.0.0.0/33\": the prefix must be a number from 0 to 32"),
    ("internal_endpoint_access_whitelist: [localhost]\n", "1: internal_endpoint_access_whitelist: \"localhost\" is not an address or a network like 10.0.0.0/8"),
    ("max_message_size_kb: 1048577\n", "1: max_message_size_kb: 1048577 is out of range: allowed are 0 to 1048576"),
    ("max_message_size: 1\n", "1: max_message_size: unknown key; did you mean max_message_size_kb?"),
    ("listen_adr: \":1\"\n", "1: listen_adr: unknown key; did you mean listen_addr?"),
    ("stream_redis:\n  adr: x\n", "2: stream_redis.adr: unknown key; did you mean addr?"),
    ("stream_redis:\n  addr: http://u:s3cret@h\n", "2: stream_redis.addr: \"http\" is no scheme for it; it is written like redis:// or rediss:// or unix://host"),
    ("stream_redis:\n  stream_name: \" \"\n", "2: stream_redis.stream_name: must not be empty"),
    ("stream_redis:\n  stream_name: \"a{json.b-c}\"\n", "2: stream_redis.stream_name: {json.b-c} names no JSON variable: it is written like {json.NAME:default}, of letters, digits and _"),
    ("stream_amqp:\n  routing_key: \"{tag.}\"\n", "2: stream_amqp.routing_key: {tag.} names no tag: it is written like {tag.NAME:default}"),
    ("stream_nats:\n  subject: a b\n", "2: stream_nats.subject: contains ' '"),
    ("stream_webhook:\n  url: example.org\n", "2: stream_webhook.url: is not written like http:// or https://host"),
    ("stream_webhook:\n  concurrency_max: 0\n", "2: stream_webhook.concurrency_max: 0 is out of range: allowed are 1 to 4096"),
    ("endpoints:\n  - path: /\n    set_tags: {id: 1}\n", "3: endpoints[0].set_tags: a tag cannot be called \"id\""),
    ("endpoints:\n  - path: /\n    set_tags: [a]\n", "3: endpoints[0].set_tags: a list is not a mapping of names to texts"),
    ("endpoints:\n  - path: /\n    set_tags: {a: [b]}\n", "3: endpoints[0].set_tags: a list is not a text"),
    ("endpoints:\n  - path: /\n    json_extract_vars: {a-b: c}\n", "3: endpoints[0].json_extract_vars: \"a-b\" is no variable's name: letters, digits and _ only"),
    ("endpoints:\n  - path: /\n    json_extract_vars: {a: }\n", "3: endpoints[0].json_extract_vars: a has no path; it is written like data.command"),
    ("endpoints:\n  - path: /\n    max_message_size_kb: 1\n    message_bytes_max: 5\n", "3: endpoints[0].max_message_size_kb: says the same as message_bytes_max; name only one of them"),
    ("endpoints:\n  - path: /\n    mode: echo\n    max_message_size_kb: 1\n", "4: endpoints[0].max_message_size_kb: only endpoints of mode gateway have this key, not echo"),
];

#[test]
fn mistakes_have_their_line_and_never_show_a_password() {
    for (index, (text, expected)) in MISTAKES.iter().enumerate() {
        let found = problems(&format!("gateway-mistake-{index}.yaml"), text);
        assert_eq!(found, [*expected], "{text}");
        assert!(!found[0].contains("s3cret"), "{found:?}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let text = "stream_redis: {stream_name: \"e-{command}\"}\nstream_amqp: {headers: {a: [1, {b: 2}]}}\n";
    assert_eq!(
        load("warnings.yaml", text).warnings(),
        [
            "stream_redis.stream_name: {command} is neither tag.NAME nor json.NAME and always its default",
            "stream_amqp.headers has no effect",
        ]
    );
    assert_eq!(Config::default().warnings(), [""; 0]);
}
