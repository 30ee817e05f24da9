//! Measures `larder sweep` over a bucket with very many objects: fills it, lists it with the bare SDK and by a sweep that
//! only looks, in turn, and then sweeps it to its low mark. Run by `benches/sweep`.
//!
//! Prints one JSON object a figure. Proves nothing about a store that others load at the same time.

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use clap::Parser;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

/// Anything that goes wrong ends the run.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measure `larder sweep` over a bucket
#[derive(Debug, Parser)]
struct Args {
    /// Origin of the S3 server
    #[arg(long)]
    endpoint: String,
    /// An existing bucket
    #[arg(long)]
    bucket: String,
    /// Access key
    #[arg(long)]
    key: String,
    /// Secret key
    #[arg(long)]
    secret: String,
    /// The `larder` that is measured
    #[arg(long, default_value = "target/release/larder")]
    larder: PathBuf,
    /// Objects to make, 1 byte each, below `bench-sweep/please/`
    #[arg(long, default_value_t = 100_000)]
    objects: u64,
    /// Puts at a time
    #[arg(long, default_value_t = 64)]
    parallel: usize,
    /// Listings of each kind; figures are medians
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave out the filling: the objects are there
    #[arg(long)]
    filled: bool,
    /// Cargo's, without meaning here
    #[arg(long, hide = true)]
    bench: bool,
}

fn client(args: &Args) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new(&args.key, &args.secret, None, None, "bench"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&args.endpoint)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

fn say(value: &Value) {
    println!("{value}");
}

async fn fill(client: &Client, args: &Args) -> Result<(), Failure> {
    let began = Instant::now();
    let puts = stream::iter(0..args.objects).map(|number| {
        let shard = number % 256;
        let key = format!("bench-sweep/please/{shard:02x}/{shard:02x}{number:018x}");
        let put = client.put_object().bucket(&args.bucket).key(key).body(ByteStream::from_static(b"x"));
        async move { put.send().await.map(drop) }
    });
    puts.buffer_unordered(args.parallel).try_collect::<()>().await?;
    say(&json!({"filled": args.objects, "seconds": began.elapsed().as_secs_f64()}));
    Ok(())
}

/// All keys, as the SDK lists them by itself.
async fn list(client: &Client, args: &Args) -> Result<(u64, Duration), Failure> {
    let began = Instant::now();
    let ask = client.list_objects_v2().bucket(&args.bucket).prefix("bench-sweep/");
    let mut pages = ask.into_paginator().send();
    let mut count = 0;
    while let Some(page) = pages.next().await {
        count += page?.contents().len() as u64;
    }
    Ok((count, began.elapsed()))
}

/// What a sweep told, how long it took, and its peak as the kernel saw it, KiB.
fn sweep(args: &Args, low: u64, high: u64) -> Result<(Value, Duration, u64), Failure> {
    let began = Instant::now();
    let mut child = Command::new(&args.larder)
        .env_clear()
        .envs([("AWS_ACCESS_KEY_ID", &args.key), ("AWS_SECRET_ACCESS_KEY", &args.secret)])
        .args(["sweep", "--json", "--min-age", "0s", "--leftovers", "none"])
        .args(["--store", &format!("s3://{}/bench-sweep", args.bucket), "--s3-endpoint", &args.endpoint])
        .args(["--prefix", "please"])
        .args(["--low-water", &low.to_string(), "--high-water", &high.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        // Once it has ended there is nothing to read any more.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let field = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = field.and_then(|field| field.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("larder sweep: {}", output.status)).into());
    }
    Ok((serde_json::from_slice(&output.stdout)?, took, peak))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn measure(args: &Args) -> Result<bool, Failure> {
    let client = client(args);
    if !args.filled {
        fill(&client, args).await?;
    }
    let (mut bare, mut ours, mut peak, mut objects) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..args.rounds.max(1) {
        let (count, took) = list(&client, args).await?;
        bare.push(count as f64 / took.as_secs_f64());
        let (told, took, most) = sweep(args, 0, u64::MAX >> 1)?;
        let seen = told.pointer("/seen/objects").and_then(Value::as_u64).unwrap_or(0);
        if seen != count {
            return Err(io::Error::other(format!("{count} objects, and the sweep saw {seen}")).into());
        }
        ours.push(seen as f64 / took.as_secs_f64());
        (peak, objects) = (peak.max(most), count);
    }
    let (bare, ours) = (median(bare), median(ours));
    let ratio = ours / bare;
    say(
        &json!({"objects": objects, "bare_per_second": bare, "sweep_per_second": ours, "ratio": ratio, "promise": 0.8}),
    );
    let (told, took, most) = sweep(args, objects / 2, objects / 2)?;
    let (_, after) = list(&client, args).await.map(|(left, _)| ((), left))?;
    peak = peak.max(most);
    say(&json!({"swept": told, "left": after, "seconds": took.as_secs_f64()}));
    say(&json!({"peak_rss_kib": peak, "promise_kib": 64 * 1024}));
    Ok(ratio >= 0.8 && peak <= 64 * 1024 && after == objects / 2)
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
