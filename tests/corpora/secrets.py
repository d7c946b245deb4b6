"""Secrets in the places where people leave them: (kind, text, the part that must go).

Each is put together at run time, so that no scanner of repositories takes this file for a leak.
"""

from __future__ import annotations

import base64

LOWER = "q7w3e9r1t5y2u8i4o6p0" * 8
MIXED = "aB3dE5gH7jK9mN1pQ2sT4vW6yZ8" * 8
UPPER = "Q7W3E5R2T6Y4U7I2" * 8
HEX = "3f9a1c7e5b2d8f60" * 8
BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"


def _basic(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def _pem(name: str) -> str:
    return f"-----BEGIN {name}-----\n{BODY}\n{BODY[::-1]}\nabcd==\n-----END {name}-----"


def _join(*parts: str) -> str:
    return "".join(parts)


_TOKENS = {
    "aws-key": [_join("AK", "IA", UPPER[:16]), _join("AS", "IA", UPPER[1:17])],
    "google-api-key": [_join("AI", "za", MIXED[:35])],
    "google-oauth": [_join("GOC", "SPX-", MIXED[:28]), _join("ya", "29.", MIXED[:60])],
    "azure-secret": [_join("aB3", "8Q", "~", MIXED[:34])],
    "github-token": [
        _join("gh", "p_", "a1B2" * 9),
        _join("gh", "s_", MIXED[:36]),
        _join("gh", "o_", MIXED[:36]),
        _join("git", "hub_pat_", MIXED[:22], "_", MIXED[:59]),
    ],
    "gitlab": [_join("gl", "pat-", MIXED[:20]), _join("gl", "dt-", MIXED[:20])],
    "slack": [
        _join("xo", "xb-", "123456789012-", "123456789012-", MIXED[:24]),
        _join("xa", "pp-1-A0", "123456789-", HEX[:32]),
    ],
    "slack-webhook": [_join("https://hooks.", "slack.com/services/T0", "AB12CD3/B0", MIXED[:24])],
    "stripe": [
        _join("sk_", "live_", MIXED[:24]),
        _join("rk_", "test_", MIXED[:24]),
        _join("wh", "sec_", MIXED[:32]),
    ],
    "openai": [_join("s", "k-", MIXED[:48]), _join("s", "k-proj-", MIXED[:60])],
    "anthropic": [_join("sk-", "ant-api03-", MIXED[:80], "-AA")],
    "huggingface": [_join("h", "f_", MIXED[:34])],
    "npm": [_join("np", "m_", MIXED[:36])],
    "pypi": [_join("py", "pi-AgEI", MIXED[:90])],
    "sendgrid": [_join("S", "G.", MIXED[:22], ".", MIXED[:43])],
    "twilio": [_join("S", "K", HEX[:32])],
    "digitalocean": [_join("do", "p_v1_", HEX[:64])],
    "databricks": [_join("da", "pi", HEX[:32])],
    "discord": [_join("MTA", MIXED[:21], ".", "Gx3Y7z", ".", MIXED[:38])],
    "discord-webhook": [
        _join("https://disc", "ord.com/api/web", "hooks/", "123456789012345678/", MIXED[:68])
    ],
    "telegram": [_join("123456789", ":AA", MIXED[:33])],
    "shopify": [_join("shp", "at_", HEX[:32])],
    "square": [_join("sq0", "atp-", MIXED[:22])],
    "mailgun": [_join("ke", "y-", HEX[:32])],
    "mailchimp": [_join(HEX[:32], "-us", "12")],
    "heroku": [_join("HR", "KU-", MIXED[:60])],
    "vault": [_join("hv", "s.", MIXED[:90])],
    "docker-hub": [_join("dck", "r_pat_", MIXED[:27])],
    "linear": [_join("lin_", "api_", MIXED[:40])],
    "notion": [_join("nt", "n_", MIXED[:46]), _join("sec", "ret_", MIXED[:43])],
    "figma": [_join("fi", "gd_", MIXED[:40])],
    "atlassian": [_join("ATA", "TT3x", MIXED[:180])],
    "new-relic": [_join("NR", "AK-", UPPER[:27])],
    "grafana": [_join("gl", "sa_", MIXED[:32], "_", HEX[:8])],
    "sentry": [_join("snt", "rys_", MIXED[:60])],
    "doppler": [_join("dp", ".pt.", MIXED[:43])],
    "fly": [_join("f", "m2_", MIXED[:80])],
    "supabase": [_join("sb", "p_", HEX[:40])],
    "age": [_join("AGE-", "SECRET-KEY-1", UPPER[:58])],
    "terraform": [_join(MIXED[:14], ".atlas", "v1.", MIXED[:66])],
    "postman": [_join("PM", "AK-", HEX[:24], "-", HEX[:34])],
    "planetscale": [_join("psc", "ale_tkn_", MIXED[:43])],
    "groq": [_join("gs", "k_", MIXED[:52])],
    "jwt": [_join("ey", "JhbGciOiJIUzI1NiJ9", ".ey", "JzdWIiOiIxMjM0NTY3ODkwIn0", ".", MIXED[:43])],
    "private-key": [
        _pem(_join("RSA PRIV", "ATE KEY")),
        _pem(_join("OPENSSH PRIV", "ATE KEY")),
        _pem(_join("EC PRIV", "ATE KEY")),
        _pem(_join("PRIV", "ATE KEY")),
        _pem(_join("PGP PRIV", "ATE KEY BLOCK")),
    ],
}

# A token is recognised by itself: alone, in a sentence, in quotes, in a JSON string.
TOKENS = [(kind, token) for kind, tokens in _TOKENS.items() for token in tokens]

PW = "hunter" + "2x"
PW2 = "S3cr" + "etPw!"

# What stands in a place that says "secret": (text, the part that must not survive).
PLACED = [
    (f'password = "{PW}"', PW),
    (f"password: {PW}", PW),
    (f"PASSWORD={PW}", PW),
    ("DB_PASSWORD: correct" + "horsebattery", "correcthorsebattery"),
    ("passwd='a b c d " + "e f'", "a b c d e f"),
    ('{"user": "x", "password": "swordfish' + '77"}', "swordfish77"),
    ('{\\"password\\": \\"' + PW + '\\"}', PW),
    (f"export DB_PASS={PW2}", PW2),
    (f"docker run -e MYSQL_PASSWORD={PW} db", PW),
    (f"tool --password {PW} --verbose", PW),
    (f"tool --password={PW} --verbose", PW),
    (f"machine host.test login bob password {PW}", PW),
    (f"machine host.test\n  login bob\n  password {PW}\n", PW),
    (f"db.test:5432:app:bob:{PW}", PW),
    (f"Server=db;User Id=sa;Password={PW2};Encrypt=true", PW2),
    (f"the password is {PW}", PW),
    (f"The staging password for bob is {PW2}.", PW2),
    (f"pw: {PW}", PW),
    (f"creds: admin / {PW2}", PW2),
    (f"curl -u admin:{PW2} http://h.test/", PW2),
    (f"curl -s --user 'admin:{PW2}' http://h.test/", PW2),
    (f"mysql -u root -p{PW} app", PW),
    (f"sshpass -p {PW} ssh host", PW),
    (f"redis-cli -h r.test -a {PW} ping", PW),
    (f"postgres://bob:{PW}@db.test/app", PW),
    ("redis://:p%40ss" + "w0rd@r.test:6379/0", "p%40ssw0rd"),
    (f"amqps://bob:{PW2}@mq.test//", PW2),
    (f"https://{MIXED[:30]}@git.test/x.git", MIXED[:30]),
    (f"Authorization: Bearer {MIXED[:32]}", MIXED[:32]),
    (f"Authorization: Basic {_basic('bob:' + PW)}", _basic("bob:" + PW)),
    (f"Authorization: Token {HEX[:40]}", HEX[:40]),
    (f'headers["Authorization"] = "Bearer {MIXED[:40]}"', MIXED[:40]),
    (f"curl -H 'Authorization: token {HEX[:40]}' u", HEX[:40]),
    (f"Cookie: theme=dark; sessionid={LOWER[:32]}; lang=en", LOWER[:32]),
    (f"Set-Cookie: session_token={MIXED[:40]}; HttpOnly", MIXED[:40]),
    (f'"auth": "{_basic("bob:" + PW)}"', _basic("bob:" + PW)),
    (f"//registry.test/:_auth={_basic('bob:' + PW)}", _basic("bob:" + PW)),
    (f"//registry.test/:_authToken={MIXED[:36]}", MIXED[:36]),
    (f"aws_secret_access_key = {MIXED[:38]}/+", MIXED[:38]),
    (f"AccountName=x;AccountKey={MIXED[:86]}==;EndpointSuffix=y", MIXED[:86]),
    (f"https://x.blob.test/c?sv=2022&sig={MIXED[:43]}%3D", MIXED[:43]),
    (f"HEROKU_API_KEY={HEX[:8]}-{HEX[:4]}-{HEX[:4]}-{HEX[:4]}-{HEX[:12]}", HEX[:12]),
    (f"X-Api-Key: {LOWER[:24]}", LOWER[:24]),
    (f"api_key: {LOWER[:32]}", LOWER[:32]),
    (f'client_secret = "{MIXED[:32]}"', MIXED[:32]),
    (f'SECRET_KEY = "django-insecure-{LOWER[:20]}#$"', LOWER[:20]),
    (f"access_token={MIXED[:40]}&x=1", MIXED[:40]),
    (f'os.environ["DB_PASSWORD"] = "{PW}"', PW),
    (f'os.getenv("DB_PASSWORD", "{PW}")', PW),
    (f'password: str = "{PW}"', PW),
    (f"password := `{PW}`", PW),
    (f'"password" => "{PW}"', PW),
    (f"<password>{PW}</password>", PW),
    (f'<add key="SmtpPassword" value="{PW}"/>', PW),
    (f"- name: DB_PASSWORD\n  value: {PW}\n", PW),
    (f'if password == "{PW2}":', PW2),
    (f"CREATE USER bob IDENTIFIED BY '{PW2}'", PW2),
    (f"CREATE ROLE bob WITH PASSWORD '{PW2}'", PW2),
    (f"spring.datasource.password={PW}", PW),
    (f"dbPassword: '{PW2}'", PW2),
    (f"GET /login?user=bob&password={PW}&next=/", PW),
]

# Written after the rules and without looking at them: what they missed at first is among these.
HELD_OUT = [
    (
        "To get into staging use ops@corp.test with Winter2024!Snow as the password",
        "Winter2024!Snow",
    ),
    ("DATABASE_URL=mysql2://app:n0tTelling@10.0.3.4:3306/prod", "n0tTelling"),
    ("user: deploy\npass: K9-dormouse-41", "K9-dormouse-41"),
    ("root password: Zx81-spectrum", "Zx81-spectrum"),
    ("REDIS_PASSWORD='fjord&lake99'", "fjord&lake99"),
    ("ssh root@10.0.0.5 (pw Blumenkohl77)", "Blumenkohl77"),
    ('{"apiKey":"' + LOWER[:32] + '"}', LOWER[:32]),
    ("STRIPE_SECRET=sk_" + "live_" + MIXED[:24], MIXED[:24]),
    ("token for the CI bot: gl" + "pat-" + MIXED[:20], MIXED[:20]),
    ("export OPENAI_API_KEY=s" + "k-proj-" + MIXED[:48], MIXED[:48]),
    ("DD_API_KEY: " + HEX[:32], HEX[:32]),
    ("consumer_secret = '" + MIXED[:50] + "'", MIXED[:50]),
    ("ALGOLIA_ADMIN_KEY=" + HEX[:32], HEX[:32]),
    ("ansible_become_pass: tr4mpol1ne", "tr4mpol1ne"),
    ("ansible_ssh_pass=tr4mpol1ne ansible_user=x", "tr4mpol1ne"),
    ("wifi passphrase = 'korrekte pferd batterie'", "korrekte pferd batterie"),
    ("keytool -storepass ch4ngeIt99 -keystore x", "ch4ngeIt99"),
    ('psql "host=db user=app password=gr33nTea dbname=x"', "gr33nTea"),
    ("conn = psycopg2.connect(user='app', password='gr33n;Tea', host='db')", "gr33n;Tea"),
    ("requests.get(url, auth=('admin', 'Sup3rGeheim'))", "Sup3rGeheim"),
    ("smtp.login('me@corp.test', 'Sup3rGeheim')", "Sup3rGeheim"),
    ("ENV JWT_SECRET=dj38fh2kd93jf8s0", "dj38fh2kd93jf8s0"),
    ("COOKIE_SECRET: 8d7f-KJ2h-99xx-Lq3p-77Zs", "8d7f-KJ2h-99xx-Lq3p-77Zs"),
    ("mongodb+srv://svc:p4ss-Word@cluster0.x.mongodb.net", "p4ss-Word"),
    ("git clone https://oauth2:gl" + "pat-" + MIXED[:20] + "@gitlab.test/a/b.git", MIXED[:20]),
    ("wget --user=bob --password='qw3rty Uiop' https://x", "qw3rty Uiop"),
    ('  password: "1q2w3e4r"\n', "1q2w3e4r"),
    ('private String dbPassword = "Erdbeer2";', "Erdbeer2"),
    ("passwd: Fahrrad#1", "Fahrrad#1"),
    ("TWILIO_AUTH_TOKEN=" + HEX[:32], HEX[:32]),
    ("helm install x --set auth.rootPassword=Fahrrad91", "Fahrrad91"),
    ("htpasswd -b .htpasswd bob Fahrrad91", "Fahrrad91"),
    ("kubectl create secret generic db --from-literal=password=Fahrrad91", "Fahrrad91"),
    ("the admin password changed to `Fahrrad#91`, tell Eve", "Fahrrad#91"),
    ("vpn login: jdoe / Marmelade-7!", "Marmelade-7!"),
    ("BASIC_AUTH_PASSWORD='t0p!Sekret'", "t0p!Sekret"),
    ("spring.mail.password: Quark$peise1", "Quark$peise1"),
    ("jdbc:postgresql://db/app?user=x&password=Quark1speise", "Quark1speise"),
    ("SENTRY_AUTH_TOKEN=" + HEX[:64], HEX[:64]),
    ("the old db password was Quarkspeise_9, rotated since", "Quarkspeise_9"),
    ("set the admin password to Quark#speise", "Quark#speise"),
    ("encryption_key: " + MIXED[:43] + "=", MIXED[:43]),
    ("const apiKey = '" + LOWER[:28] + "';", LOWER[:28]),
    ("api-token: " + LOWER[:40], LOWER[:40]),
    ("cloudflare api token is " + MIXED[:40], MIXED[:40]),
    ("PGPASSWORD=Quark9 psql -h db", "Quark9"),
    ("'PASSWORD': 'lmk4-ndk-22',", "lmk4-ndk-22"),
    ("RABBITMQ_DEFAULT_PASS: kaninchen4", "kaninchen4"),
    ("GF_SECURITY_ADMIN_PASSWORD=grafzahl", "grafzahl"),
    ("smb://bob:Gr%21llen@nas/share", "Gr%21llen"),
    ("Login with password: 'Gr!llen 4 free'", "Gr!llen 4 free"),
    ("X-Vault-Token: s." + MIXED[:24], MIXED[:24]),
    ("refresh_token: " + MIXED[:64], MIXED[:64]),
    ("Passwort: Gr1llen7", "Gr1llen7"),
    ('api_secret="' + LOWER[:20] + '"', LOWER[:20]),
    ("openssl rsa -passin pass:Gr1llen7 -in k.pem", "Gr1llen7"),
]
