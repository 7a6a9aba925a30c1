//! Namespaces ahead of need.

use super::harness::{inside, ip, on_host};
use crate::Network;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn pins(dir: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    mounts
        .lines()
        .filter(|line| line.contains(" nsfs ") && line.contains(&*dir.to_string_lossy()))
        .count()
}

#[test]
fn sets_are_new_distinct_and_ready() {
    on_host(|host| {
        let pool = host.pool(3);
        // Taken as fast as the pool gives them; it may be empty at first.
        let sets: Vec<_> =
            (0..5).map(|_| pool.take().unwrap_or_else(|| pool.make().unwrap())).collect();
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let own = inode(Path::new("/proc/thread-self/ns/net"));
        let mut inodes: Vec<u64> = sets.iter().map(|set| inode(&set.net)).collect();
        inodes.sort_unstable();
        inodes.dedup();
        assert!(inodes.len() == 5 && !inodes.contains(&own));
        for set in &sets {
            let lo = inside(&set.net, || ip(&["-j", "address", "show", "lo"]));
            assert!(lo.contains("\"UP\"") && lo.contains("127.0.0.1"), "{lo}");
            assert_eq!(
                inside(&set.net, || std::fs::read_to_string(
                    "/proc/sys/net/ipv4/ip_unprivileged_port_start"
                )
                .unwrap())
                .trim(),
                "0"
            );
            assert_ne!(inode(&set.ipc), inode(Path::new("/proc/thread-self/ns/ipc")));
            assert_ne!(inode(&set.uts), inode(Path::new("/proc/thread-self/ns/uts")));
            pool.release(&set.slot).unwrap();
            pool.release(&set.slot).unwrap();
            assert!(!set.net.exists());
        }
        assert!(pool.release("../x").is_err());
        let dir = host.config.run_dir.join("ns");
        drop(pool);
        assert_eq!(pins(&dir), 0);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    });
}

#[test]
fn a_recursive_bind_takes_no_pins_along() {
    on_host(|host| {
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        let copy = host.dir.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        rustix::mount::mount_bind_recursive(host.dir.path(), &copy).unwrap();
        assert_eq!(pins(&copy), 0);
        assert_eq!(pins(&host.config.run_dir), 3);
        rustix::mount::unmount(&copy, rustix::mount::UnmountFlags::DETACH).unwrap();
        pool.release(&set.slot).unwrap();
    });
}

#[test]
fn other_mount_namespaces_lose_the_pins_too() {
    on_host(|host| {
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        let dir = host.config.run_dir.join("ns");
        std::thread::scope(|scope| {
            let (copied, has_copied) = std::sync::mpsc::channel();
            let (released, is_released) = std::sync::mpsc::channel::<()>();
            let dir = &dir;
            let service = scope.spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                let slave = rustix::mount::MountPropagationFlags::DOWNSTREAM
                    | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", slave).unwrap();
                copied.send(pins(dir)).unwrap();
                is_released.recv().unwrap();
                pins(dir)
            });
            assert_eq!(has_copied.recv().unwrap(), 3);
            pool.release(&set.slot).unwrap();
            released.send(()).unwrap();
            assert_eq!(service.join().unwrap(), 0);
        });
    });
}

#[test]
fn sysctls_and_host_name() {
    on_host(|host| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let network = Network::open(host.config.clone()).unwrap();
            let map = orlop_sys::process::IdMap { inside: 0, outside: 100_000, count: 65_536 };
            sysctls_and_host_name_of(&network, network.namespaces().await.unwrap()).await;
            let owned = network.owned_namespaces(map, map).await.unwrap();
            let user = owned.user.clone().unwrap();
            assert_ne!(
                std::fs::metadata(&user).unwrap().ino(),
                std::fs::metadata("/proc/self/ns/user").unwrap().ino()
            );
            sysctls_and_host_name_of(&network, owned).await;
            assert!(!user.exists());
            network.close().await.unwrap();
            assert_eq!(pins(&host.config.run_dir), 0);
        });
    });
}

async fn sysctls_and_host_name_of(network: &Network, set: crate::Namespaces) {
    let wanted = BTreeMap::from([
        ("net.core.somaxconn".to_owned(), "4321".to_owned()),
        ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
        ("fs.mqueue.msg_max".to_owned(), "12".to_owned()),
    ]);
    network.apply_sysctls(&set, &wanted).await.unwrap();
    let read = |path: &str| {
        std::fs::read_to_string(Path::new("/proc/sys").join(path)).unwrap().trim().to_owned()
    };
    assert_eq!(inside(&set.net, || read("net/core/somaxconn")), "4321");
    assert_ne!(read("net/core/somaxconn"), "4321");
    let ipc = crate::netns::open(&set.ipc).unwrap();
    let entered = [(
        std::os::fd::AsFd::as_fd(&ipc),
        rustix::thread::LinkNameSpaceType::InterProcessCommunication,
    )];
    assert_eq!(
        crate::netns::inside(&entered, || (
            read("kernel/shm_rmid_forced"),
            read("fs/mqueue/msg_max")
        ))
        .unwrap(),
        ("1".into(), "12".into())
    );
    for (key, value) in
        [("vm.swappiness", "1"), ("net.core.nonsense", "1"), ("net.core.somaxconn", "many")]
    {
        let bad = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let error = network.apply_sysctls(&set, &bad).await.unwrap_err();
        assert!(
            matches!(error, crate::NetworkError::Invalid(_)) && error.to_string().contains(key),
            "{error}"
        );
    }
    network.set_hostname(&set, "a-pod").await.unwrap();
    let uts = crate::netns::open(&set.uts).unwrap();
    let entered = [(
        std::os::fd::AsFd::as_fd(&uts),
        rustix::thread::LinkNameSpaceType::HostNameAndNISDomainName,
    )];
    let name =
        crate::netns::inside(&entered, || rustix::system::uname().nodename().to_owned()).unwrap();
    assert_eq!(name.to_str().unwrap(), "a-pod");
    assert!(network.set_hostname(&set, &"x".repeat(65)).await.is_err());
    network.release(&set.slot).await.unwrap();
}

#[test]
fn closing_leaves_nothing_but_what_is_used() {
    on_host(|host| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mounts = || {
                let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                text.lines()
                    .filter(|line| line.contains(&*host.config.run_dir.to_string_lossy()))
                    .count()
            };
            let config = crate::NetworkConfig { pool_size: 3, ..host.config.clone() };
            let network = Network::open(config.clone()).unwrap();
            let set = network.namespaces().await.unwrap();
            network.close().await.unwrap();
            assert_eq!(mounts(), 2 + 3);
            let network = Network::open(config).unwrap();
            network.recover(std::slice::from_ref(&set.slot), &[]).await.unwrap();
            assert!(set.net.exists());
            network.release(&set.slot).await.unwrap();
            network.close().await.unwrap();
            assert_eq!(mounts(), 0);
        });
    });
}
