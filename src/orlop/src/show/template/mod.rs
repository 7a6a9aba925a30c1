//! Templates of `--format`: the part of Go's text/template that people and scripts use, over JSON.
//!
//! Text, `{{.Field.Sub}}`, `$`, variables, pipelines, `if`, `range`, `with`, `break`, `continue`, comments and
//! trim marks; the functions are in `functions`. There are no templates that call others.

mod functions;
mod parse;
mod print;
mod run;

pub(crate) use print::print;
pub(crate) use run::Missing;

use serde_json::Value;

/// A template that was read.
#[derive(Debug)]
pub(crate) struct Template(Vec<Node>);

/// Why a template cannot be read, or not be filled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("--format: {0}")]
pub(crate) struct TemplateError(String);

fn error<T>(message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError(message.into()))
}

#[derive(Debug)]
enum Node {
    Text(String),
    Output(Pipe),
    /// Of a variable that is new, or not.
    Assign(String, bool, Pipe),
    /// Each condition with what it guards; then the rest.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    With(Option<String>, Pipe, Vec<Node>, Vec<Node>),
    /// Variables for index and element.
    Range(Vec<String>, Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Debug)]
struct Pipe(Vec<Command>);

/// A function, field or value, and its arguments.
#[derive(Debug)]
struct Command(Vec<Operand>);

/// A value and the fields that lead on from it.
#[derive(Debug)]
struct Operand {
    base: Base,
    fields: Vec<String>,
}

#[derive(Debug)]
enum Base {
    Dot,
    Variable(String),
    Function(String),
    Literal(Value),
    Group(Pipe),
}

impl Template {
    /// Reads it. `\t` and `\n` that a shell has left as they are stand for tab and line end.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(Self)
    }

    /// Fills it.
    pub(crate) fn render(&self, data: &Value, missing: Missing) -> Result<String, TemplateError> {
        run::run(&self.0, data, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn data() -> Value {
        json!({
            "Id": "abc", "Name": "/web", "Size": 42, "Rate": 0.5, "On": true, "Off": false, "None": null,
            "Args": ["-c", "x y"], "Empty": [], "Labels": {"a.b/c": "1", "z": "<2>"},
            "State": {"Status": "running", "ExitCode": 0},
            "NetworkSettings": {
                "Networks": {"bridge": {"IPAddress": "10.0.0.2"}, "back": {"IPAddress": "10.1.0.2"}},
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "53/udp": null},
            },
            "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
        })
    }

    fn fill(text: &str) -> Result<String, TemplateError> {
        Template::parse(text)?.render(&data(), Missing::NoValue)
    }

    #[test]
    fn what_tools_and_people_ask() {
        for (text, want) in [
            ("{{.State.Status}}", "running"),
            ("{{ .Id }} {{.Name}}", "abc /web"),
            ("{{json .State}}", r#"{"ExitCode":0,"Status":"running"}"#),
            ("{{ .State | json | len }}", "33"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}},{{end}}", "10.1.0.2,10.0.0.2,"),
            (
                "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}",
                "back=10.1.0.2 bridge=10.0.0.2 ",
            ),
            (r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#, "8080"),
            (
                r#"{{ with (index (index .NetworkSettings.Ports "80/tcp") 0) }}{{ printf "%s\t%s" .HostIp .HostPort }}{{ end }}"#,
                "0.0.0.0\t8080",
            ),
            (
                r#"{{range $p, $conf := .NetworkSettings.Ports}}{{$p}} -> {{if $conf}}{{(index $conf 0).HostPort}}{{else}}none{{end}};{{end}}"#,
                "53/udp -> none;80/tcp -> 8080;",
            ),
            (r#"{{index .Labels "a.b/c"}}"#, "1"),
            (r#"{{index .Labels "absent"}}|"#, "|"),
            (r#"{{join .Args " , "}}"#, "-c , x y"),
            (r#"{{index .Args 1}}"#, "x y"),
            (
                "{{.Args}} {{.Labels}} {{.Size}} {{.Rate}} {{.None}}",
                "[-c x y] map[a.b/c:1 z:<2>] 42 0.5 <no value>",
            ),
            ("{{len .Args}}{{len .Name}}{{len .Empty}}", "240"),
            ("{{if .On}}yes{{else}}no{{end}}{{if .Off}}yes{{else if .Args}}args{{end}}", "yesargs"),
            (
                "{{if and .On (not .Off)}}both{{end}}{{if or .Off .Empty}}x{{else}}none{{end}}",
                "bothnone",
            ),
            (
                r#"{{if eq .State.Status "exited" "running"}}1{{end}}{{if ne .Size 41}}2{{end}}{{if lt .Size 43}}3{{end}}{{if ge .Size 42.0}}4{{end}}"#,
                "1234",
            ),
            ("{{range .Empty}}x{{else}}nothing{{end}}", "nothing"),
            ("{{range .Mounts}}{{if .RW}}{{continue}}{{end}}{{.Source}}{{end}}", "/b"),
            ("{{range .Mounts}}{{.Source}}{{break}}{{end}}", "/a"),
            (
                "{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Source}} of {{$.Id}}{{end}}",
                "/a of abc, /b of abc",
            ),
            ("{{$x := .Size}}{{$x}}{{$x = 7}}{{$x}}", "427"),
            ("{{println .Id .Size}}", "abc 42\n"),
            (r#"{{print "a" 1 2 "b"}}"#, "a1 2b"),
            (r#"{{printf "%-6s|%4d|%q|%v|%%" .Id .Size .Id .On}}"#, "abc   |  42|\"abc\"|true|%"),
            (
                "{{upper .Id}} {{title .Id}} {{lower \"ABC\"}} {{truncate .Id 2}} {{pad .Id 1 1}}|",
                "ABC Abc abc ab  abc |",
            ),
            (r#"{{index (split .Name "/") 1}} {{slice .Name 1}}"#, "web web"),
            ("a \n{{- /* said */ -}}\n b", "ab"),
            ("{{- .Id -}} x", "abcx"),
            ("{{`raw`}}{{\"q\\\"\"}}", "rawq\""),
            (r"{{.Id}}\t{{.Size}}\n", "abc\t42\n"),
            (r#"{{range .Args}}{{json .}}{{"\n"}}{{end}}"#, "\"-c\"\n\"x y\"\n"),
            ("{{.State.Absent}}", "<no value>"),
            ("}} { {", "}} { {"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("{{.Id", "{{ is not closed"),
            ("{{if .On}}x", "if is not closed by {{end}}"),
            ("{{end}}", "end closes nothing"),
            ("{{jsn .}}", "there is no function jsn; did you mean json?"),
            ("{{.Id.Sub}}", "Id is no object, so it has no field Sub"),
            ("{{index .Args 5}}", "has 2 elements, and none has number 5"),
            ("{{range .Size}}{{end}}", ""),
            ("{{$x}}", "variable $x is not set"),
            ("{{\"a}}", "a string is not closed"),
            ("{{}}", "is empty"),
            ("{{.Id | }}", "nothing follows |"),
            ("{{len .Size}}", "has no length"),
            ("{{break}}", "break is outside"),
            ("{{(.Id}}", "( is not closed"),
            ("{{template \"x\"}}", "template is not possible here"),
        ] {
            let done = fill(text);
            match done {
                Err(error) => assert!(error.to_string().contains(why), "{text}: {error}"),
                Ok(text) => assert_eq!(why, "", "{text}"),
            }
        }
        let strict = Template::parse("{{.Nmae}}").unwrap().render(&data(), Missing::Error);
        let error = strict.unwrap_err().to_string();
        assert!(error.contains("there is no field Nmae; did you mean Name?"), "{error}");
        let deep = "{{(".to_owned() + &"(".repeat(10_000);
        assert!(Template::parse(&deep).is_err());
        assert!(Template::parse(&"{{if .}}".repeat(10_000)).is_err());
    }
}
