//! Upload or download one file with a Xet token that a task handed over. Needs hf-xet, and no Hub token.
//!
//! transfer TOKEN_FILE upload FILE PATH_IN_REPO    prints the Xet file record
//! transfer TOKEN_FILE download RECORD FILE        RECORD: a Xet file record as JSON

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};
use xet::xet_session::{HeaderMap, Sha256Policy, XetFileInfo, XetSessionBuilder, header};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The builder of an operation with everything it needs to reach CAS.
macro_rules! with_access {
    ($builder:expr, $token_file:expr, $token:expr) => {{
        let expiry = $token["expires_at_unix"].as_u64().ok_or("the token has no expiry")?;
        let builder = $builder
            .with_endpoint(text(&$token, "cas_url")?)
            .with_token_info(text(&$token, "access_token")?, expiry);
        if $token["renewed"] == true {
            let (url, headers) = refresh_route($token_file.clone())?;
            builder.with_token_refresh_url(url, headers)
        } else {
            builder
        }
    }};
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [token_file, command, first, second] = &arguments[..] else {
        return Err("usage: transfer TOKEN_FILE upload|download ...".into());
    };
    let token = read_token(token_file)?;
    let session = XetSessionBuilder::new().build()?;

    if command == "upload" {
        let commit = with_access!(session.new_upload_commit()?, token_file, token).build_blocking()?;
        commit.upload_from_path_blocking(PathBuf::from(first), Sha256Policy::Compute)?;
        let report = commit.commit_blocking()?;
        let info = &report.uploads.values().next().ok_or("nothing was uploaded")?.xet_info;
        let record = json!({
            "path": second, "size": info.file_size, "sha256": info.sha256, "xet_hash": info.hash, "repo": token["repo"]
        });
        println!("{record}");
    } else {
        let record: Value = serde_json::from_str(first)?;
        let info: XetFileInfo =
            serde_json::from_value(json!({"hash": record["xet_hash"], "file_size": record["size"]}))?;
        let group = with_access!(session.new_file_download_group()?, token_file, token).build_blocking()?;
        group.download_file_to_path_blocking(info, PathBuf::from(second))?;
        group.finish_blocking()?;
        // The client does not verify the content: compare it with record["sha256"] here.
    }
    Ok(())
}

/// The token in the file as it is now: the task replaces it before it expires.
fn read_token(file: &str) -> Result<Value> {
    let token: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    match token["version"].as_u64() {
        Some(1) => Ok(token),
        _ => Err(format!("{file} has another version than 1").into()),
    }
}

fn text<'a>(token: &'a Value, field: &str) -> Result<&'a str> {
    token[field].as_str().ok_or_else(|| format!("the token has no {field}").into())
}

/// Serve the token in the file to the client, which asks before the last one expires.
fn refresh_route(token_file: String) -> Result<(String, HeaderMap)> {
    let mut key = [0u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    let bearer = format!("Bearer {:032x}", u128::from_ne_bytes(key));
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer.parse()?)]);
    let server = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", server.local_addr()?);
    std::thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(std::result::Result::ok);
            let is_ours = lines.take_while(|line| !line.is_empty()).any(|line| {
                let (name, value) = line.split_once(": ").unwrap_or_default();
                name.eq_ignore_ascii_case("authorization") && value == bearer
            });
            let (status, body) = match read_token(&token_file) {
                Ok(token) if is_ours => {
                    let (exp, url) = (&token["expires_at_unix"], &token["cas_url"]);
                    ("200 OK", json!({"accessToken": token["access_token"], "exp": exp, "casUrl": url}).to_string())
                }
                _ => ("401 Unauthorized", String::new()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    Ok((url, headers))
}
