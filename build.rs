//! Generates the CRI and the monitor's protocol from `proto/`, without a system protoc.

use std::{env, error::Error, fs, path::PathBuf};

use prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let monitor = protox::compile(["monitor/v1/monitor.proto"], ["proto"])?;
    Config::new().compile_fds(monitor)?;

    if env::var_os("CARGO_FEATURE_DAEMON").is_some() {
        let cri = protox::compile(["runtime/v1/api.proto"], ["proto"])?;
        let descriptor = prost::Message::encode_to_vec(&cri);
        fs::write(out.join("cri-descriptor.bin"), descriptor)?;
        tonic_prost_build::configure()
            .build_client(true)
            .build_server(true)
            .emit_rerun_if_changed(false)
            .extern_path(".runtime.v1.Container", "crate::cri::ContainerItem")
            .extern_path(".runtime.v1.PodSandbox", "crate::cri::PodSandboxItem")
            .extern_path(".runtime.v1.PodSandboxMetrics", "crate::cri::PodSandboxMetrics")
            .extern_path(".runtime.v1.ContainerAttributes", "crate::cri::ContainerAttributes")
            .extern_path(".runtime.v1.PodSandboxAttributes", "crate::cri::PodSandboxAttributes")
            .compile_fds(cri)?;
        let admin = protox::compile(["criquet/v1/admin.proto"], ["proto"])?;
        let descriptor = prost::Message::encode_to_vec(&admin);
        fs::write(out.join("admin-descriptor.bin"), descriptor)?;
        // `criquet status -o json` prints messages as they are.
        tonic_prost_build::configure()
            .emit_rerun_if_changed(false)
            .type_attribute(".criquet.v1", "#[derive(serde::Serialize)]")
            .compile_fds(admin)?;
    }
    Ok(())
}
