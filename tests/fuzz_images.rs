//! The fuzz targets of images, a short while each and with a fixed seed, so that a failure
//! comes again. Inputs are mutations of what honest tools write. `make fuzz` goes on for as
//! long as one likes.

mod common;

use common::random::Random;
use criquet::fuzz;

const ROUNDS: usize = 4000;

fn mutations(seed: u64, samples: &[&[u8]], mut target: impl FnMut(&[u8])) {
    let mut random = Random::new(seed);
    for sample in samples {
        target(sample);
    }
    for _ in 0..ROUNDS {
        let input = random.mutation(samples);
        target(&input);
    }
}

#[test]
fn references() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let long = format!("registry.example:5000/a/b-c__d.e:1.2_3@{digest}");
    let samples = ["busybox", "[::1]:5000/x:y", "index.docker.io/library/x", &long];
    mutations(1, &samples.map(str::as_bytes), fuzz::reference);
}

#[test]
fn manifests() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let descriptor = format!(r#"{{"mediaType":"x","digest":"{digest}","size":3}}"#);
    let image = format!(
        "\x02{{\"schemaVersion\":2,\"config\":{descriptor},\"layers\":[{descriptor},{descriptor}]}}"
    );
    let index = format!("\x01{{\"schemaVersion\":2,\"manifests\":[{descriptor}]}}");
    mutations(2, &[image.as_bytes(), index.as_bytes()], fuzz::manifest);
}

#[test]
fn hosts_files() {
    let sample = "server = \"https://r.example\"\n[host.\"https://m.example/v2\"]\n\
                  capabilities = [\"pull\", \"resolve\"]\nskip_verify = true\n\
                  override_path = true\ndial_timeout = \"3s\"\n\
                  [host.\"https://m.example/v2\".header]\nx = [\"y\"]\n";
    mutations(3, &[sample.as_bytes()], fuzz::hosts_toml);
}

#[test]
fn policies() {
    let sample = r#"{"default":[{"type":"reject"}],"transports":{"docker":{"":[
        {"type":"sigstoreSigned","keyData":"AAAA","signedIdentity":{"type":"matchRepository"}},
        {"type":"insecureAcceptAnything"}]}}}"#;
    mutations(4, &[sample.as_bytes()], fuzz::policy);
}

#[test]
fn streams() {
    // One byte that says in which pieces it comes, then an empty member or frame, one with
    // content, and one to be skipped.
    let gzip = b"\x03\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0\
        \x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x4a\x06\0\xc2\x41\x24\x35\x03\0\0\0";
    let zstd = b"\x05\x28\xb5\x2f\xfd\x20\0\x01\0\0\x28\xb5\x2f\xfd\x20\x03\x19\0\0abc\
        \x50\x2a\x4d\x18\x04\0\0\0skip";
    mutations(7, &[gzip, zstd], fuzz::stream);
}

#[test]
fn layers() {
    requires_root!();
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(5);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let entries = 4 * (1 + random.below(24));
        let input: Vec<u8> = (0..entries).map(|_| random.next() as u8).collect();
        accepted += usize::from(fuzz::whiteouts(directory.path(), &input));
    }
    assert!(accepted > ROUNDS / 20, "only {accepted} were accepted");
    let archive = common::image::layer(&[]);
    let small = &archive[archive.len() - 8192..];
    mutations(6, &[small], |data| {
        fuzz::archive(directory.path(), data);
    });
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
