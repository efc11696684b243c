use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::{Config, Error, Overrides, Problem, SAMPLE};
use crate::kind::Kind;

/// A directory of a configuration and its drop-ins.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("config.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn load(&self) -> Result<Config, Error> {
        Config::load(Some(&self.file()))
    }

    fn problems(&self) -> Vec<Problem> {
        match self.load() {
            Err(Error::Invalid(problems)) => problems.0,
            other => panic!("{other:?}"),
        }
    }
}

fn problems(text: &str) -> Vec<Problem> {
    Files::new(&[("config.toml", text)]).problems()
}

fn is_setting(line: &str) -> bool {
    let Some((key, _)) = line.strip_prefix("# ").and_then(|line| line.split_once(" = ")) else {
        return false;
    };
    !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn the_sample_says_every_default() {
    let settings = SAMPLE.lines().filter(|line| is_setting(line)).count();
    let uncommented: String = SAMPLE
        .lines()
        .map(|line| if is_setting(line) { &line[2..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    let sample = Files::new(&[("config.toml", &uncommented)]);
    let table: toml::Table = toml::from_str(&uncommented).unwrap();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    let count = |table: &toml::Table| -> usize {
        table.values().map(|value| value.as_table().map_or(1, toml::Table::len)).sum()
    };
    assert_eq!(sample.load().unwrap(), Config::default());
    assert_eq!(count(&table), count(&defaults), "a key is missing in the sample");
    assert_eq!(settings, count(&defaults));
    let as_it_is = Files::new(&[("config.toml", SAMPLE)]);
    assert_eq!(as_it_is.load().unwrap(), Config::default());
}

#[test]
fn what_is_dumped_is_what_is_loaded() {
    let mut config = Config {
        monitor_path: Some("/opt/monitor".into()),
        shm_size: 1 << 40,
        ..Config::default()
    };
    config.network.subnet_v6 = None;
    config.cni.conf_template = Some("/etc/cni/template".into());
    let dumped = toml::to_string(&config).unwrap();
    assert_eq!(Files::new(&[("config.toml", &dumped)]).load().unwrap(), config);
}

#[test]
fn drop_ins_are_laid_over_the_file_in_the_order_of_their_names() {
    let files = Files::new(&[
        ("config.toml", "log_level = \"warn\"\n[network]\nmtu = 1400\nbridge = \"one\"\n"),
        ("config.d/20-b.toml", "[network]\nbridge = \"three\"\n[cni]\nbin_dirs = [\"/b\"]\n"),
        ("config.d/10-a.toml", "[network]\nbridge = \"two\"\nmasquerade = false\n"),
        ("config.d/30-c.toml.disabled", "log_level = \"nonsense\"\n"),
    ]);
    let config = files.load().unwrap();
    assert_eq!(config.log_level, "warn");
    assert_eq!((config.network.mtu, config.network.masquerade), (1400, false));
    assert_eq!(config.network.bridge, "three");
    assert_eq!(config.cni.bin_dirs, [PathBuf::from("/b")]);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_its_likely_name() {
    let files = Files::new(&[
        ("config.toml", "log_level = \"info\"\n\n[network]\n  brigde = \"b0\"\n"),
        ("config.d/a.toml", "subnet_v4 = \"10.0.0.0/16\"\n"),
    ]);
    let found: Vec<String> = files.problems().iter().map(ToString::to_string).collect();
    let at = |name: &str| files.directory.path().join(name).display().to_string();
    let expected = format!(
        "{}:4:3: network.brigde: is not known; did you mean bridge? (there is builtin, bridge, \
         subnet_v4, subnet_v6, masquerade, mtu, table, source_check, prefer)",
        at("config.toml")
    );
    assert_eq!(found[0], expected);
    let expected = "1:1: subnet_v4: is not known here; it belongs below [network]";
    assert_eq!(found[1], format!("{}:{expected}", at("config.d/a.toml")));
}

#[test]
fn values_of_the_wrong_type_are_all_reported() {
    let text = "shm_size = \"64MB\"\nunprivileged_ports = \"yes\"\nnetwork = 3\n\
                [cni]\nmax_conf = -1\nbin_dirs = \"/opt\"\n[image]\nprogress_timeout = 1.5\n";
    let problems = problems(text);
    let found: Vec<(&str, usize)> = problems
        .iter()
        .map(|problem| (problem.key.as_str(), problem.place.as_ref().unwrap().line))
        .collect();
    let expected = [
        ("shm_size", 1),
        ("unprivileged_ports", 2),
        ("network", 3),
        ("cni.max_conf", 5),
        ("cni.bin_dirs", 6),
        ("image.progress_timeout", 8),
    ];
    assert_eq!(found, expected);
    assert!(problems[0].reason.contains("MiB"), "{}", problems[0]);
    assert!(problems[1].reason.contains("boolean"), "{}", problems[1]);
}

#[test]
fn values_that_make_no_sense_are_all_reported_with_their_place() {
    let files = Files::new(&[
        (
            "config.toml",
            "root = \"criquet\"\nlisten = \"/run/x.sock\"\nlog_level = \"inof\"\n\
             runtime_handlers = [\"a\", \"a\", \"B\"]\nshm_size = 1\n\
             [containers]\ncdi_spec_dirs = [\"cdi\"]\ndefault_env = [\"=x\"]\n\
             default_ulimits = [\"nofile=2:1\"]\ntimezone = \"../passwd\"\n\
             allowed_annotations = [\"x\"]\n",
        ),
        (
            "config.d/n.toml",
            "[network]\nbridge = \"a bridge\"\nsubnet_v4 = \"10.88.0.1/16\"\n\
             subnet_v6 = \"fd00::/127\"\nmtu = 100\ntable = \"\"\n[cni]\nbin_dirs = []\n\
             timeout = 0\n[image]\nmax_parallel_downloads = 0\n[registry]\nconfig_path = \"c\"\n",
        ),
    ]);
    let problems = files.problems();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "root",
        "listen",
        "log_level",
        "runtime_handlers",
        "runtime_handlers",
        "shm_size",
        "containers.cdi_spec_dirs",
        "containers.default_env",
        "containers.default_ulimits",
        "containers.timezone",
        "containers.allowed_annotations",
        "network.bridge",
        "network.subnet_v4",
        "network.subnet_v6",
        "network.mtu",
        "network.table",
        "cni.bin_dirs",
        "cni.timeout",
        "image.max_parallel_downloads",
        "registry.config_path",
    ];
    assert_eq!(keys, expected);
    assert!(problems.iter().all(|problem| problem.place.is_some()));
    assert!(problems[12].reason.contains("write 10.88.0.0/16"), "{}", problems[12]);
    let error = files.load().unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().starts_with("the configuration has 20 problems\n  "), "{error}");
}

#[test]
fn syntax_errors_have_a_place() {
    let problems = problems("root = \"/a\"\n[network\nbridge = x\n");
    let place = problems[0].place.as_ref().unwrap();
    assert_eq!(place.line, 2, "{problems:?}");
}

#[test]
fn root_and_state_are_kept_apart() {
    for (root, state) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a")] {
        let config = Config { root: root.into(), state: state.into(), ..Config::default() };
        let keys: Vec<String> = config.validate().into_iter().map(|p| p.key).collect();
        assert_eq!(keys, ["state"], "{root} {state}");
    }
    assert_eq!(Config::default().validate(), []);
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let files = Files::new(&[]);
    assert_eq!(files.load().unwrap_err().kind(), Kind::NotFound);
    let directory = Files::new(&[]);
    let error = Config::load(Some(directory.directory.path())).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error:?}");
}

#[test]
fn the_command_line_goes_before_the_files() {
    let files = Files::new(&[("config.toml", "root = \"relative\"\nlisten = \"unix:///a\"\n")]);
    let overrides = Overrides {
        root: Some("/b".into()),
        listen: Some("tcp://c".into()),
        ..Overrides::default()
    };
    let error = Config::load_with(Some(&files.file()), &overrides).unwrap_err();
    assert!(error.to_string().starts_with("listen: must be unix://"), "{error}");
    let overrides = Overrides { listen: None, ..overrides };
    let config = Config::load_with(Some(&files.file()), &overrides).unwrap();
    assert_eq!((config.root, config.listen.as_str()), ("/b".into(), "unix:///a"));
}

#[test]
fn options_follow_the_configuration() {
    let mut config = Config::default();
    let network = config.network_options();
    assert_eq!(network, crate::network::Options::default());
    config.root = "/data".into();
    config.network.mtu = 1400;
    assert_eq!(config.network_options().mtu, Some(1400));
    assert_eq!(config.image_options().root, PathBuf::from("/data/images"));
    assert_eq!(config.pod_options().cgroup_parent, PathBuf::from("/criquet"));
    assert_eq!(config.socket(), PathBuf::from("/run/criquet/criquet.sock"));
}

#[test]
fn streams_have_limits_and_whole_tls() {
    let problems = problems(
        "[streaming]\naddress = \"::1\"\nidle_timeout = 0\nmax_sessions = 0\n\
         tls_cert_file = \"/a.pem\"\n",
    );
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = ["streaming.idle_timeout", "streaming.max_sessions", "streaming.tls_cert_file"];
    assert_eq!(keys, expected);
    let mut config = Config::default();
    assert_eq!(config.streaming_options(), crate::streaming::Options::default());
    config.streaming.tls_client_ca_file = Some("/ca.pem".into());
    assert_eq!(config.validate().len(), 1);
    config.streaming.tls_cert_file = Some("/cert.pem".into());
    config.streaming.tls_key_file = Some("/key.pem".into());
    assert_eq!(config.validate(), []);
    let files = config.streaming_options().tls.unwrap();
    assert_eq!(files.client_authorities, Some("/ca.pem".into()));
}

#[test]
fn metrics_for_others_need_tls() {
    let listen = |listen: &str, tls: bool| {
        let mut config = Config::default();
        config.metrics.listen = listen.to_owned();
        if tls {
            config.metrics.tls_cert_file = Some("/cert.pem".into());
            config.metrics.tls_key_file = Some("/key.pem".into());
        }
        let problems = config.validate();
        let reason = problems.first().map(|problem| {
            assert_eq!(problem.key, "metrics.listen");
            problem.reason.clone()
        });
        (reason, config.metrics_options())
    };
    for (place, tls) in [
        ("127.0.0.1:9537", false),
        ("[::1]:9537", false),
        ("0.0.0.0:9537", true),
        ("unix:///run/m.sock", false),
    ] {
        let (problem, options) = listen(place, tls);
        assert_eq!(problem, None, "{place}");
        let options = options.unwrap();
        let shown = options.listen.to_string();
        assert_eq!((shown.as_str(), options.tls.is_some()), (place, tls));
    }
    assert_eq!(listen("", false), (None, None));
    for (place, tls, words) in [
        ("0.0.0.0:9537", false, "tls_cert_file"),
        ("[2001:db8::1]:9537", false, "tls_cert_file"),
        ("unix:///run/m.sock", true, "no TLS"),
        ("unix:///run/criquet/criquet.sock", false, "name another"),
        ("unix://relative", false, "absolute"),
        ("localhost:9537", false, "an address and a port"),
        ("9537", false, "an address and a port"),
    ] {
        let problem = listen(place, tls).0.unwrap_or_else(|| panic!("{place}"));
        assert!(problem.contains(words), "{place}: {problem}");
    }
}

#[test]
fn traces_go_to_an_endpoint_or_nowhere() {
    let mut config = Config::default();
    assert_eq!(config.tracing_options(), None);
    config.tracing.endpoint = "http://127.0.0.1:4317".to_owned();
    config.tracing.sampling_rate_per_million = 1_000_000;
    assert_eq!(config.validate(), []);
    assert_eq!(config.tracing_options().unwrap().endpoint, "http://127.0.0.1:4317");
    for endpoint in ["https://a:4317", "127.0.0.1:4317", "http://a", "http://a:1/x", "nonsense "] {
        config.tracing.endpoint = endpoint.to_owned();
        assert_eq!(config.validate()[0].key, "tracing.endpoint", "{endpoint}");
    }
    config.tracing.endpoint.clear();
    config.tracing.sampling_rate_per_million += 1;
    assert_eq!(config.validate()[0].key, "tracing.sampling_rate_per_million");
}
