//! Generates the messages of the worker protocol.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_protos(&["proto/worker.proto"], &["proto"])
}
