//! Who we are to the server, and who it is to us; and what is wrong with the settings before anything is asked.

use bpf_metrics_exporter::lookup::kubernetes::{Access, Settings, check};
use serde_json::{Value, json};

use super::server::{Directory, Server, pod};
use super::{Log, PATIENCE, settings, start_with};

#[tokio::test]
async fn a_token_that_changed_is_read_again() {
    let mut server = Server::start().await;
    let directory = Directory::new("rotation");
    let token = directory.write("token", "old\n");
    let kubeconfig = directory.kubeconfig(&json!({"server": server.url}), &json!({"tokenFile": token}));
    let watcher = start_with(directory, settings(kubeconfig, PATIENCE));
    server.list().await.pods("10", &[pod("cart", "1")]);
    let watch = server.watch().await;
    assert_eq!(watch.header("authorization"), Some("Bearer old"));
    watch.refuse(401, "Unauthorized");
    let refused = server.watch().await;
    std::fs::write(&token, "new\n").expect("there is room");
    refused.refuse(401, "Unauthorized");
    let watch = server.watch().await;
    assert_eq!(watch.header("authorization"), Some("Bearer new"));
    assert_eq!(watch.of("resourceVersion"), Some("10"), "no list is needed for that");
    watch.accept().event("ADDED", &pod("till", "11"));
    while watcher.known(&["till"]).is_empty() {
        watcher.changed().await;
    }
    let lines = Log::lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line.contains("WARN")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("401") && warnings[0].contains("token"), "{lines:?}");
}

#[tokio::test]
async fn a_token_that_a_plain_file_has_without_a_newline_is_the_same() {
    let mut server = Server::start().await;
    let directory = Directory::new("no-newline");
    let token = directory.write("token", "plain");
    let kubeconfig = directory.kubeconfig(&json!({"server": server.url}), &json!({"tokenFile": "token"}));
    let _watcher = start_with(directory, settings(kubeconfig, PATIENCE));
    let list = server.list().await;
    assert_eq!(
        list.header("authorization"),
        Some("Bearer plain"),
        "a path is seen from the kubeconfig's directory"
    );
    std::fs::write(&token, "other").expect("there is room");
    list.refuse(401, "Unauthorized");
    assert_eq!(server.list().await.header("authorization"), Some("Bearer other"));
}

#[tokio::test]
async fn a_plugin_brings_a_token() {
    let mut server = Server::start().await;
    let directory = Directory::new("plugin");
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-a-plugin"},
    });
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "echo",
        "args": [credential.to_string()],
        "interactiveMode": "Never",
    });
    let kubeconfig = directory.kubeconfig(&json!({"server": server.url}), &json!({"exec": exec}));
    let _watcher = start_with(directory, settings(kubeconfig, PATIENCE));
    assert_eq!(server.list().await.header("authorization"), Some("Bearer from-a-plugin"));
}

#[tokio::test]
async fn a_server_is_trusted_by_the_authority_in_the_kubeconfig() {
    let (mut server, authority) = Server::start_secure().await;
    let directory = Directory::new("tls");
    let authority = directory.write("ca.crt", &authority);
    let cluster = json!({"server": server.url, "certificate-authority": authority});
    let kubeconfig = directory.kubeconfig(&cluster, &json!({"token": "t"}));
    let watcher = start_with(directory, settings(kubeconfig, PATIENCE));
    let list = server.list().await;
    assert_eq!(list.header("authorization"), Some("Bearer t"));
    list.pods("10", &[pod("cart", "1")]);
    watcher.changed().await;
    assert_eq!(watcher.known(&["cart"]), ["cart"]);
}

#[tokio::test]
async fn a_server_that_another_authority_vouches_for_is_told_nothing() {
    let (mut server, _) = Server::start_secure().await;
    let (_other, authority) = Server::start_secure().await;
    let directory = Directory::new("untrusted");
    let authority = directory.write("ca.crt", &authority);
    let cluster = json!({"server": server.url, "certificate-authority": authority});
    let kubeconfig = directory.kubeconfig(&cluster, &json!({"token": "t"}));
    let _watcher = start_with(directory, settings(kubeconfig, PATIENCE));
    let said = Log::first(1).await.concat();
    assert!(said.contains("certificate"), "{said}");
    assert!(server.is_left_alone());
}

#[test]
fn mistakes_are_found_before_anything_is_asked() {
    let directory = Directory::new("check");
    let server = json!({"server": "http://127.0.0.1:1"});
    let check_file = |cluster: &Value, user: &Value| {
        check(&settings(directory.kubeconfig(cluster, user), PATIENCE)).map_err(|error| error.to_string())
    };
    let plugin =
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/does/not/exist"}});
    assert_eq!(check_file(&server, &json!({})), Ok(()));
    assert_eq!(check_file(&server, &plugin), Ok(()), "it is not run yet");
    for (cluster, user, expected) in [
        (json!({}), json!({}), "url is missing"),
        (json!({"server": "http://a b"}), json!({}), "url"),
        (
            json!({"server": "https://a", "certificate-authority": "/does/not/exist"}),
            json!({}),
            "/does/not/exist",
        ),
        (json!({"server": "https://a", "certificate-authority-data": "?"}), json!({}), "base64"),
        (json!({"server": "http://a", "proxy-url": "http://b"}), json!({}), "proxy"),
        (server.clone(), json!({"tokenFile": "/does/not/exist"}), "/does/not/exist"),
        (
            server.clone(),
            json!({"client-certificate": "/does/not/exist", "client-key": "/no"}),
            "/does/not/exist",
        ),
    ] {
        let error = check_file(&cluster, &user).expect_err(expected);
        assert!(error.contains(expected) && !error.contains('\n'), "{cluster} {user}: {error}");
    }
    for (path, expected) in [
        (directory.path("none"), "No such file"),
        (directory.write("text", "token: a-secret, b: {"), "kubeconfig"),
        (directory.write("empty", ""), "context"),
    ] {
        let error = check(&settings(path, PATIENCE)).expect_err(expected).to_string();
        assert!(error.contains(expected) && !error.contains('\n') && !error.contains("a-secret"), "{error}");
    }
    let nowhere = |access, node_name: &str| {
        check(&Settings { access, node_name: node_name.to_owned(), patience: PATIENCE })
    };
    let error = nowhere(Access::InCluster, "node-1").expect_err("this is no pod").to_string();
    assert!(error.contains("in-cluster needs a pod with a service account"), "{error}");
    let error = nowhere(Access::InCluster, "").expect_err("it has no name").to_string();
    assert!(error.contains("name of this node"), "{error}");
}
