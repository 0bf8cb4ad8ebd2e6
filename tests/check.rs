//! `check` as Concourse runs it: whole process, real standard input and output.

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;

fn check(stdin: &str) -> (i32, String, String) {
    let output = Command::new(cargo_bin("check"))
        .write_stdin(stdin)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_first_check_finds_nothing() {
    for request in [
        r#"{"source": {"token": "0123456789abcdef"}}"#,
        r#"{"source": {"token": "0123456789abcdef"}, "version": null}"#,
        r#"{"source": {}}"#,
    ] {
        assert_eq!(check(request), (0, "[]\n".to_owned(), String::new()), "{request}");
    }
}

#[test]
fn a_known_version_is_echoed() {
    let request = r#"{"source": {"token": "0123456789abcdef"}, "version": {"cluster": "brisk-otter-3f9c", "state": "ready"}, "extra": 1}"#;
    let expected = "[{\"cluster\":\"brisk-otter-3f9c\",\"state\":\"ready\"}]\n";
    assert_eq!(check(request), (0, expected.to_owned(), String::new()));
}

#[test]
fn a_bad_source_is_refused_in_colour_and_nothing_is_answered() {
    let (code, stdout, stderr) = check(r#"{"source": {"tokn": "0123456789abcdef"}}"#);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "\u{1b}[1;31merror:\u{1b}[0m source.tokn: no such field; did you mean token?\n"
    );
}

#[test]
fn a_request_that_is_no_json_is_refused() {
    let (code, stdout, stderr) = check("{\"source\": ");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("stdin: line 1, column 11: EOF while parsing a value"),
        "{stderr}"
    );
    let (code, stdout, stderr) = check(&" ".repeat(1 << 20));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("stdin: the request has more than 262144 bytes"),
        "{stderr}"
    );
}
