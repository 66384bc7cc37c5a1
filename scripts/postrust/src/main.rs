//! The REST server of the tests: it does what `main` of postrust-server does, without admin port, socket and telemetry.

use postrust_server::lenient_uri::LenientListener;
use postrust_server::{Host, build};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "postrust=error".into());
    tracing_subscriber::fmt().with_env_filter(filter).init();
    let config = postrust_core::AppConfig::try_from_env()?;
    let address = (config.server_host.clone(), config.server_port);
    let server = build(config, Host::SERVER).await?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(LenientListener(listener), server.router).await?;
    Ok(())
}
