//! Output that cannot be written: a full disk is exit 4, a reader that has gone ends the output and nothing else, and
//! stderr never matters.

mod common;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, PipeWriter, Read, pipe};
use std::process::{Command, Stdio};

use common::{Peer, loadgen, run, signal, temporary};

const SHORT: [&str; 8] = ["--warmup", "0s", "--duration", "200ms", "--subscribers", "2", "--rate", "100"];

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn without_a_reader() -> PipeWriter {
    pipe().unwrap().1
}

/// The exit code, which is there unless a signal has ended it, and stderr.
fn ends(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_full_stdout_is_exit_4_and_one_that_nobody_reads_is_left_alone() {
    let (fanout, echo) = (Peer::start("fanout", &[]), Peer::start("echo", &[]));
    let (url, echo_url, pid) = (fanout.url("/"), echo.url("/"), echo.pid().to_string());
    let report = temporary("unwritable.json");
    let file = report.to_str().unwrap();
    let (code, _, errors) = run(&[&["run", "--url", &url], &SHORT[..]].concat());
    assert!(code == 0 || code == 3, "{errors}");
    let kept = [&["run", "--url", &url, "--quiet", "--json", file], &SHORT[..]].concat();
    let (code, said) = ends(loadgen().args(&kept).stdout(full()));
    assert!(code == Some(4) && said.contains("cannot write to stdout: No space left"), "{code:?} {said}");
    // What could not be shown has been written all the same.
    assert!(std::fs::read_to_string(&report).unwrap().contains("ringrelay.loadgen/1"));
    let idle = ["--connections", "5", "--messages", "1", "--hold", "100ms", "--server-pid", &pid];
    for args in [
        &[&["run", "--url", &url, "--json", "-"], &SHORT[..]].concat()[..],
        &[&["search", "--url", &url, "--slo", "p50<1h", "--from", "100", "--to", "150"], &SHORT[..6]].concat(),
        &[&["idle", "--url", &echo_url], &idle[..]].concat(),
        &["merge", file],
        &["diff", file, file],
        &["doctor"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ] {
        let (code, said) = ends(loadgen().args(args).stdout(full()));
        assert!(code == Some(4) && said.contains("cannot write to stdout"), "{args:?}: {code:?} {said}");
        let (code, said) = ends(loadgen().args(args).stdout(without_a_reader()));
        assert!(matches!(code, Some(0 | 1 | 3)) && !said.contains("stdout"), "{args:?}: {code:?} {said}");
    }
    std::fs::remove_file(report).unwrap();
}

#[test]
fn whatever_becomes_of_stderr_the_exit_code_stays() {
    let peer = Peer::start("fanout", &[]);
    let url = peer.url("/");
    let measure = ["run", "--url", &url, "--warmup", "0s", "--duration", "1100ms", "--metrics-listen", "localhost:0"];
    for (args, codes) in [
        (&measure[..], &[0, 3][..]),
        (&["run", "--url", "ws://127.0.0.1:1/"], &[4]),
        (&["run", "--size", "1"], &[2]),
        (&["run", "--url", "nothing"], &[2]),
    ] {
        let quiet = || {
            let mut command = loadgen();
            command.args(args).stdout(Stdio::null());
            command
        };
        for ended in [quiet().stderr(full()).status(), quiet().stderr(without_a_reader()).status()] {
            let code = ended.unwrap().code();
            assert!(code.is_some_and(|code| codes.contains(&code)), "{args:?}: {code:?}");
        }
    }
}

#[test]
fn a_peer_that_nobody_listens_to_goes_on_and_one_that_cannot_say_where_it_is_does_not() {
    let peer = ["peer", "fanout", "--listen", "localhost:0"];
    let (code, said) = ends(loadgen().args(peer).stdout(full()));
    assert!(code == Some(4) && said.contains("cannot write to stdout"), "{code:?} {said}");
    let (reader, writer) = pipe().unwrap();
    let mut child = loadgen().args(peer).stdout(writer).spawn().unwrap();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    // Who says where to listen may use a name.
    let address = line.trim().strip_prefix("Listening on 127.0.0.1:").unwrap_or_else(|| panic!("{line:?}"));
    drop(reader);
    let url = format!("ws://localhost:{address}/");
    let (code, _, errors) = run(&[&["run", "--url", &url], &SHORT[..]].concat());
    assert!(code == 0 || code == 3, "{code} {errors}");
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_table_that_is_cut_off_by_head_ends_quietly() {
    let mut child = loadgen().arg("doctor").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)) && output.stderr.is_empty(), "{output:?}");
    assert_eq!(&first, b"open");
}
