//! The applications that people learn with: built for real, with pip and npm reaching their registries as
//! the machine does, run and fetched over a mapped port, and built again after touching only the code.
//!
//! The base images of those names are made from Debian packages by `e2e/images/mkapps`.

mod build_support;

use orlop_e2e::World;
use orlop_e2e::process::{output, run, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A world without a daemon, whose store gets what is built: in the machine's own network, since the
/// world's has no way to the outside.
struct Apps(World);

struct Built {
    log: String,
    reused: u64,
    made: u64,
}

impl Apps {
    fn new(images: &[(&str, &str)]) -> Self {
        let made = orlop_e2e::target().join("images/apps");
        run(Command::new(orlop_e2e::root().join("e2e/images/mkapps")).arg(&made));
        let apps = Self(World::prepared());
        for (tar, name) in images {
            let dir = apps.0.path(tar);
            std::fs::create_dir_all(&dir).unwrap();
            let from = made.join(tar).with_extension("tar");
            std::fs::copy(&from, dir.join("root.tar")).unwrap();
            std::fs::write(dir.join("Dockerfile"), "FROM scratch\nADD root.tar /\n").unwrap();
            apps.build(&dir, &["-t", name]);
            std::fs::remove_dir_all(&dir).unwrap();
        }
        apps
    }

    fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.0.path(name);
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn build(&self, context: &Path, flags: &[&str]) -> Built {
        let metadata = self.0.path("metadata.json");
        let mut command = Command::new(orlop_e2e::program("orlop"));
        command.arg("build").arg("--root").arg(self.0.path("root"));
        command.arg("--run").arg(self.0.path("run")).arg("--metadata-file").arg(&metadata);
        let done = command.args(flags).arg(context).stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "{log}");
        let text = std::fs::read(&metadata).unwrap();
        let metadata: Value = serde_json::from_slice(&text).unwrap();
        let number = |key: &str| metadata[key].as_u64().unwrap();
        Built { log, reused: number("orlop.steps.reused"), made: number("orlop.steps.made") }
    }

    /// Runs the image as a pod with its port mapped, and gives the page.
    fn page(&mut self, image: &str, port: u16, expected: &str) {
        let world = &mut self.0;
        world.start();
        let pod_config = world.pod(
            "app",
            json!({"port_mappings": [{"protocol": 0, "container_port": port, "host_port": 8090}]}),
        );
        let pod = world.run_pod(&pod_config);
        let config = json!({
            "metadata": {"name": "app"}, "image": {"image": image}, "log_path": "app.log", "linux": {},
        });
        world.run_container(&pod, &pod_config, &config);
        let mut page = String::new();
        until("the page", || {
            let fetched =
                output(world.inside("curl").args(["-fsS", "-m", "5", "http://127.0.0.1:8090/"]));
            page = String::from_utf8_lossy(&fetched.stdout).into_owned();
            fetched.status.success()
        });
        assert_eq!(page, expected);
        world.crictl(&["rmp", "-f", &pod]);
        world.stop();
    }

    fn finish(mut self) {
        self.0.start();
        let mut command = self.0.inside(orlop_e2e::program("orlop"));
        command.args(["builder", "prune"]).arg("--root").arg(self.0.path("root"));
        run(command.arg("--run").arg(self.0.path("run")));
    }
}

const FLASK: &str = "FROM python:3.12-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY . .
EXPOSE 5000
RUN useradd --create-home app
USER app
CMD [\"python\", \"app.py\"]
";

#[test]
#[ignore = "needs PyPI, npm and minutes for its base images: scripts/test apps"]
fn a_flask_application() {
    let mut apps = Apps::new(&[("python", "python:3.12-slim")]);
    let code = |word: &str| {
        format!(
            "from flask import Flask\nimport os\napp = Flask(__name__)\n@app.route('/')\ndef page():\n    return f'{word} {{os.getuid()}}'\napp.run(host='0.0.0.0', port=5000)\n"
        )
    };
    let dir = apps.context(
        "flask",
        &[("Dockerfile", FLASK), ("requirements.txt", "flask\n"), ("app.py", &code("one"))],
    );
    let built = apps.build(&dir, &["-t", "flask-app"]);
    assert_eq!((built.reused, built.made), (0, 5), "{}", built.log);
    apps.page("flask-app", 5000, "one 1000");
    std::fs::write(dir.join("app.py"), code("two")).unwrap();
    let again = apps.build(&dir, &["-t", "flask-app"]);
    // WORKDIR, requirements and pip are as they were.
    assert_eq!((again.reused, again.made), (3, 2), "{}", again.log);
    apps.page("flask-app", 5000, "two 1000");
    apps.finish();
}

const NODE: &str = "FROM node:20-slim
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev
COPY . .
EXPOSE 3000
CMD [\"node\", \"server.js\"]
";
const PACKAGE: &str =
    r#"{"name": "app", "version": "1.0.0", "private": true, "dependencies": {"ms": "2.1.3"}}"#;
/// Without addresses: npm asks the registry that the machine has.
const LOCK: &str = r#"{"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {
  "": {"name": "app", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}},
  "node_modules/ms": {"version": "2.1.3"}}}"#;
const SERVER: &str = "const ms = require('ms');\nrequire('http').createServer((q, s) => s.end(`WORD ${ms('2 days')}`)).listen(3000);\n";

#[test]
#[ignore = "needs PyPI, npm and minutes for its base images: scripts/test apps"]
fn a_node_application() {
    let mut apps = Apps::new(&[("node", "node:20-slim")]);
    let dir = apps.context(
        "node",
        &[
            ("Dockerfile", NODE),
            ("package.json", PACKAGE),
            ("package-lock.json", LOCK),
            ("server.js", &SERVER.replace("WORD", "one")),
        ],
    );
    let built = apps.build(&dir, &["-t", "node-app"]);
    assert_eq!((built.reused, built.made), (0, 4), "{}", built.log);
    apps.page("node-app", 3000, "one 172800000");
    std::fs::write(dir.join("server.js"), SERVER.replace("WORD", "two")).unwrap();
    let again = apps.build(&dir, &["-t", "node-app"]);
    assert_eq!((again.reused, again.made), (3, 1), "{}", again.log);
    apps.page("node-app", 3000, "two 172800000");
    apps.finish();
}

const COMPILED: &str = "FROM gcc:13 AS build
WORKDIR /src
COPY Makefile ./
COPY main.c ./
RUN --mount=type=cache,target=/cache make
FROM scratch
COPY --from=build /src/hello /hello
CMD [\"/hello\"]
";
const MAKEFILE: &str = "hello: main.c\n\t$(CC) -static -O1 -o $@ $<\n";
const MAIN: &str = "#include <stdio.h>\nint main(void) { puts(\"WORD\"); return 0; }\n";

#[test]
#[ignore = "needs PyPI, npm and minutes for its base images: scripts/test apps"]
fn compiled_programs() {
    let apps = Apps::new(&[("gcc", "gcc:13")]);
    let dir = apps.context(
        "c",
        &[
            ("Dockerfile.dev", COMPILED),
            ("Makefile", MAKEFILE),
            ("main.c", &MAIN.replace("WORD", "one")),
        ],
    );
    let file = dir.join("Dockerfile.dev");
    let out = apps.0.path("out");
    let flags = ["-f", file.to_str().unwrap(), "-t", "hello", "-o", out.to_str().unwrap()];
    let built = apps.build(&dir, &flags);
    assert_eq!((built.reused, built.made), (0, 5), "{}", built.log);
    // The image is the program and nothing else.
    let names: Vec<_> = std::fs::read_dir(&out).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["hello"]);
    assert_eq!(run(&mut Command::new(out.join("hello"))).trim(), "one");
    std::fs::write(dir.join("main.c"), MAIN.replace("WORD", "two")).unwrap();
    let again = apps.build(&dir, &flags);
    // WORKDIR and the Makefile are as they were; the program, its copy and the source are not.
    assert_eq!((again.reused, again.made), (2, 3), "{}", again.log);
    assert_eq!(run(&mut Command::new(out.join("hello"))).trim(), "two");
    apps.finish();
}
