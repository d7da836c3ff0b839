use proptest::prelude::*;

use super::*;

fn test_list(texts: &[&str]) -> Result<AllowList, AllowListError> {
    AllowList::parse(texts, Environment::Test)
}

#[test]
fn networks_are_shown_as_they_are_allowed() {
    let list = test_list(&["127.0.0.0/8", "203.0.113.9/24", "198.51.100.7", "127.0.0.0/8"]).expect("good");
    assert_eq!(
        serde_json::to_string(&list).expect("serialises"),
        r#"["127.0.0.0/8","203.0.113.0/24","198.51.100.7/32"]"#
    );
    assert_eq!(list.networks().len(), 3);
}

#[test]
fn what_is_no_network_is_refused_with_its_place() {
    let bads = [
        "",
        "x",
        "::1",
        "::ffff:1.2.3.4",
        "1.2.3",
        "1.2.3.4/33",
        "1.2.3.4/",
        "1.2.3.4/+8",
        "1.2.3.4/08",
        "01.2.3.4",
        "1.2.3.4 ",
        "1.2.3.4/8/8",
        "0x1.2.3.4",
        "1.2.3.4/-1",
    ];
    for bad in bads {
        let error = test_list(&["1.1.1.1", bad]);
        assert_eq!(error, Err(AllowListError::NotANetwork { position: 1 }), "{bad}");
    }
    assert_eq!(test_list(&[]), Err(AllowListError::Empty));
    let many: Vec<String> =
        (0..=ADDRESSES_PER_KEY_MAX).map(|n| format!("1.0.{}.{}", n / 256, n % 256)).collect();
    assert_eq!(AllowList::parse(&many, Environment::Test), Err(AllowListError::TooMany));
    assert!(AllowList::parse(&many[1..], Environment::Test).is_ok());
}

#[test]
fn the_whole_of_ipv4_is_refused_however_it_is_written() {
    for whole in [&["0.0.0.0/0"][..], &["9.9.9.9/0"], &["0.0.0.0/1", "128.0.0.0/1"]] {
        assert_eq!(test_list(whole), Err(AllowListError::Everything));
        assert!(AllowList::parse(whole, Environment::Production).is_err());
    }
}

#[test]
fn production_takes_public_ranges_only() {
    let refused = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0/8",
        "10.200.0.1",
        "8.0.0.0/6",
        "100.64.0.0/10",
        "100.127.255.255",
        "100.0.0.0/8",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.1",
        "172.31.255.255",
        "172.0.0.0/8",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0/16",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.255",
        "203.0.112.0/23",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "128.0.0.0/1",
    ];
    for text in refused {
        let judged = AllowList::parse([text], Environment::Production);
        assert!(matches!(judged, Err(AllowListError::NotPublic { position: 0, .. })), "{text}: {judged:?}");
        assert!(AllowList::parse([text], Environment::Test).is_ok(), "{text}");
    }
    let taken = [
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.255",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0/24",
        "223.255.255.255",
        "1.1.1.1",
        "194.181.0.0/16",
    ];
    for text in taken {
        assert!(AllowList::parse([text], Environment::Production).is_ok(), "{text}");
    }
}

#[test]
fn a_list_judged_for_test_does_not_suit_production() {
    let judged_for_test = test_list(&["1.1.1.1"]).expect("good");
    assert!(judged_for_test.suits(Environment::Test));
    assert!(!judged_for_test.suits(Environment::Production));
    let judged = AllowList::parse(["1.1.1.1"], Environment::Production).expect("good");
    assert!(judged.suits(Environment::Production) && judged.suits(Environment::Test));
}

proptest! {
    #[test]
    fn the_look_up_agrees_with_a_scan_of_the_networks(
        // Few bits, so that networks overlap, touch and nest.
        networks in proptest::collection::vec((0u32..64, 26u8..=32), 1..24),
        wide in proptest::collection::vec((any::<u32>(), 1u8..=32), 0..4),
        anywhere in proptest::collection::vec(any::<u32>(), 16),
    ) {
        let texts: Vec<String> = networks
            .iter()
            .map(|&(host, prefix)| format!("{}/{prefix}", Ipv4Addr::from(host << 2 | 0x0A00_0000)))
            .chain(wide.iter().map(|&(host, prefix)| format!("{}/{prefix}", Ipv4Addr::from(host))))
            .collect();
        let Ok(list) = AllowList::parse(&texts, Environment::Test) else { return Ok(()) };
        let naive = |address: u32| {
            networks.iter().map(|&(host, prefix)| (host << 2 | 0x0A00_0000, prefix)).chain(wide.clone()).any(
                |(host, prefix)| (host ^ address) >> (32 - u32::from(prefix)) == 0,
            )
        };
        for address in (0x09FF_FFF0..0x0A00_0110).chain(anywhere).chain([0, u32::MAX]) {
            prop_assert_eq!(list.contains(Ipv4Addr::from(address)), naive(address), "{:08x}", address);
        }
    }
}
