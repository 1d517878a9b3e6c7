//! Generates the service traits, clients and message types from `proto/`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .compile_protos(&["proto/artifact.proto", "proto/network.proto"], &["proto"])
}
