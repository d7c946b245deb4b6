"""Lines of real notes, code and configuration that hold no secret and must stay as they are."""

from __future__ import annotations

_SHA1 = "9fceb02d0ae598e95dc970b74767f19372d61af8"
_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_B64 = "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="

_IDENTIFIERS = f"""
fixed in {_SHA1}
commit {_SHA1}
see 9fceb02
git show 9fceb02d0ae5 -- stratum/store.py
{_SHA1[:7]}..{_SHA1[7:14]}
index 83db48f..bf269f4 100644
sha256:{_SHA256}
"integrity": "sha512-{_B64}"
checksum = "{_SHA256}"
github.com/stretchr/testify v1.9.0 h1:HtqpIVDClZ4nwg75+f6Lvsy/wHu+3BoSGCbBAcpTsTg=
hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
md5: d41d8cd98f00b204e9800998ecf8427e
etag: "33a64df551425fcc55e4d42a148795d9f25f89d4"
id: 550e8400-e29b-41d4-a716-446655440000
request 7d444840-9dc0-11d1-b245-5ffdce74fad2 failed
image: nginx@sha256:{_SHA256}
blob {_SHA1} 1234
--hash=sha256:{_SHA256}
resolved "https://registry.yarnpkg.com/lodash/-/lodash-4.17.21.tgz#{_SHA1}"
arn:aws:iam::123456789012:role/deploy
projects/my-project-123456/locations/europe-west1
ulid 01ARZ3NDEKTSV4RRFFQ69G5FAV
object id 507f1f77bcf86cd799439011
nanoid V1StGXR8_Z5jdHi6B-myT
QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG
data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==
src="data:font/woff2;base64,d09GMgABAAAAAAWYAA0AAAAADDgAAAVAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
version = "1.2.3-rc.4+build.5678"
trace_id=4bf92f3577b34da6a3ce929d0e0e4736
00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
W/"0815-abcdef123456"
ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx0P4Qm3uQ7eYzC1kV8Nw2nXH6sR5tG9bD7fL0aK3mT bob@host
-----BEGIN CERTIFICATE-----
-----BEGIN PUBLIC KEY-----
if data.startswith("-----BEGIN PRIVATE KEY-----"):
a file that begins with -----BEGIN RSA PRIVATE KEY----- is a private key
SHA256:uNiVztksCsDhcc0u9e8BgrJXVGDX8yVd8Lb5nQ2Ykzw host (ED25519)
public_key = "04a1b2c3d4e5f60718293a4b5c6d7e8f90"
primary_key = "a1b2c3d4e5f6a7b8"
cache_key = "views.decorators.cache.cache_page.8f2c1d4e"
sort_key = "2024-01-01#a1b2c3"
"""

_PLACEHOLDERS = """
password = "$PASSWORD"
password = "${DB_PASSWORD}"
PASSWORD=$1
TOKEN=$GITHUB_TOKEN
--token=$GITHUB_TOKEN
--token ${GITHUB_TOKEN}
token: ${{ secrets.GITHUB_TOKEN }}
GITHUB_TOKEN: ${{ secrets.X }}
password: {{ db_password }}
password = "<your-password>"
password: <password>
api_key = "your-api-key"
password = "your-password"
password = "changeme"
password: "change-me-now1"
password = "********"
password: ***
password = "xxxxxxxx"
token = "xxxx-xxxx-xxxx"
PASSWORD=
password = ""
password = ''
password = None
password: null
password: true
password: false
"password": null,
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
password = os.environ["DB_PASSWORD"]
password = os.environ.get("DB_PASSWORD")
password = os.getenv("DB_PASSWORD")
const password = process.env.DB_PASSWORD;
apiKey: process.env.API_KEY2,
api_key = import.meta.env.VITE_API_KEY
password = "%s"
password = "%(password)s"
password = f"{password}"
url = f"postgres://{user}:{password}@{host}/{name}"
postgres://user:${PASSWORD}@db/app
postgres://user:<password>@db/app
postgres://user:password@localhost/db
"redis://:%s@%s:%d" % (password, host, port)
Authorization: Bearer $TOKEN
Authorization: Bearer <token>
Authorization: Bearer {token}
Authorization: Basic <credentials>
-H "Authorization: Bearer ${TOKEN}"
headers = {"Authorization": f"Bearer {token}"}
headers = {"Authorization": "Bearer " + token}
curl -u $USER:$PASSWORD https://h.test
curl -u "user:${PASSWORD}" https://h.test
curl -u user:<password> https://h.test
mysql -u root -p app
mysql -u root -p$MYSQL_PASSWORD app
password: [REDACTED:password]
PASSWORD=[REDACTED:password]
ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
sk-your-api-key-goes-here-please
password: !vault |
password: "{{ vault_db_password }}"
secret: ENC[AES256_GCM,data:...,type:str]
password: @password@
password = __PASSWORD__
set PASSWORD=%PASSWORD%
"password": "..."
token = "example-token-1234"
api_key = "insert-your-api-key-123"
secretKey: placeholder
password = "TODO"
"""

_CODE = r"""
password = get_password()
password = getpass.getpass("Password: ")
token: str = field(default="")
def check_password(raw_password, encoded):
self.password_validators = settings.AUTH_PASSWORD_VALIDATORS
api_key: config.settings.api_key2
{% csrf_token %}
csrf_token = get_token(request)
csrftoken = request.COOKIES["csrftoken"]
tokens = tokenizer.encode(x)
password=form.cleaned_data["pw"]
password = self.cleaned_data.get("password1")
password = password
password=password,
password=raw_password
self.password = make_password(raw_password)
self._password = raw_password
user.password = hashed
password: str
password: string;
password?: string
password: Optional[str] = None
password: string | null = null;
def login(self, username: str, password: str) -> Token:
token = next(tokens)
token = self.tokens[i]
token = tokens[0]
token = line.split()[1]
token = lexer.get_token()
token2 = parser.token1
if token == "end":
if token == "endblock2":
token_type = "bearer"
TOKEN_BLOCK = 2
TOKEN_TEXT = 0
class TokenType(Enum):
self.next_token = response["NextToken"]
next_token = "eyJ2IjoxLCJrIjoiYWJj"
max_tokens = 4096
num_tokens: 1200
pad_token = "<pad>"
eos_token="</s>"
tokenizer.pad_token_id = 0
special_token = "[CLS]"
const token = await getToken();
const token = req.headers["x-token"];
let token = localStorage.getItem("token2");
token => token.value
tokens.map(token => token.type)
var t=e.token,n=e.password;return t?n:null
function(e,t){return e.password=t,e.token=n.value,e}
if(!password||password.length<8)throw Error(p1)
secret = Secret()
secret = k8s.read_namespaced_secret(name)
secretName: db-credentials
secretKeyRef:
SECRET_KEY = env("SECRET_KEY")
SECRET_KEY = config("SECRET_KEY")
SECRET_KEY = get_random_secret_key()
SECRET_KEY_FALLBACKS = []
SECRET_KEY = os.environ["SECRET_KEY"]
settings.SECRET_KEY
access_key = session.get_credentials().access_key
credentials = service_account.Credentials.from_file(path)
credentials = Credentials(username, password)
credentials: include
credentials = self.get_credentials2()
key = "users:42"
key = f"{prefix}:{name}"
api_key = load_key(path)
api_key=api_key,
api_key: str = Field(..., alias="apiKey")
private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
private_key_path = "/etc/ssl/private/key.pem"
password_file = "/run/secrets/db_password"
password = "/run/secrets/db_password2"
password_hasher = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
password_reset_timeout = 259200
PASSWORD_RESET_TIMEOUT = 60 * 60
password_field = "password2"
@sensitive_variables("password1", "password2")
fields = ("username", "password1", "password2")
sensitive_post_parameters("password")
path("password_reset/", views.PasswordResetView.as_view(), name="password_reset"),
path("reset/<uidb64>/<token>/", view)
re.compile(r"password=(\S+)")
re.search(r"token[=:]\s*([a-z0-9]{20,})", text)
_URL = re.compile(r"://[^:]+:[^@]+@")
PASSWORD_RE = r"(?=.*\d)(?=.*[a-z]).{8,}"
assert "password" not in response
assert response.json()["token"] == token
assertNotEqual(user.password, "")
def test_password_is_hashed_with_pbkdf2():
def test_token_with_2_parts_is_rejected():
it("rejects a password shorter than 8 chars", () => {
class PasswordField2(CharField):
import password1 as p
from app.tokens import token2
compass = "north1west"
bypass = 1
passed = 12
pass
encompass: a1b2c3
passthrough=abc123x
keyword = "a1b2c3d4e5f6"
monkey = "b4n4n4s!"
hotkey: ctrl+1
keyboard = "qwerty1"
pwdx 1234
pw = pathlib.Path
password[i] = chr(97)
password += char
password != other
password is None
password is not None
password or None
$password = $_POST['password'];
$this->password = $password2;
password: params[:password]
let password = &args.password;
password := r.FormValue("password")
var password string
String password = request.getParameter("password");
char password[64];
password = *argv
password VARCHAR(128) NOT NULL
ALTER TABLE auth_user ADD password varchar(128);
SELECT password FROM users WHERE id = 42
secret: SecretStr
token: Annotated[str, Depends(oauth2_scheme)]
token: z.string().min(16)
password: Joi.string().min(8).required(),
password: { type: String, required: true },
password: bcrypt.hashSync(req.body.password, 10),
"password": {"type": "string", "minLength": 8}
password: passwordSchema,
Password = require("./password2")
sk-container-id-1 div.sk-toggleable__content
task-list-with-a-very-long-name-2024-01-01
disk-usage-report-for-the-year-2024
"""

_PROSE = """
Enter your password
"password": "Enter your password"
"password": "Passwort"
"password": "Contraseña"
"password": "Mot de passe"
"password_too_short": "This password is too short."
"forgot_password": "Forgot your password?"
password = _("Password")
msgid "Password (again)"
the password is hashed
The password is hashed with sha256 before it is stored.
password is at least 8 characters
the password is base64-encoded
the password is utf8 text
the token is invalid
token is expired
The token is 32 bytes long.
the token is a JWT signed with RS256
the API key is read from the environment
the secret is rotated every 90 days
secret: see the wiki
The key is api_key2 in config.settings
token: the next word
Password: must have 8-64 characters
Password reset e-mails are sent by tasks.send_mail
Use --password to set a password
use --password-file for scripts
the --token option requires a value
run with --token or set TOKEN
credentials: see 1Password
credentials are stored in ~/.aws/credentials
login: see docs/auth.md
login / logout
login at http://localhost:8000/
log in with GitHub/GitLab
secrets/ holds nothing
the cookie: sessionid is HttpOnly
Cookie: theme=dark; lang=en
Authorization: see RFC 7235
the Authorization header is required
Bearer authentication is described in RFC6750
Basic auth is off
Authorization: Bearer
"Bearer" is the token type
tokens are counted with o200k_base
a token budget of 1200
password strength: weak
password policy = 12 chars
pass: 12, fail: 3
first pass: ok
pass 2 of 3
key is 'name2'
passphrase: optional
the secret to success is work
this decision is the key to v2
"""

_PLACES = """
http://localhost:8000/
http://[::1]:8000/
https://example.com:8443/path@v2
https://pypi.org/project/requests/2.31.0/
git@github.com:owner/name.git
ssh://git@github.com:22/owner/name.git
ssh://git@github.com/owner/name.git
user@host
bob@example.com:~/file
scp file bob@10.0.0.1:/tmp/
https://bob@git.test/x.git
postgres://bob@localhost:5432/app
redis://localhost:6379/0
mongodb+srv://cluster0.ab1cd.mongodb.net/app
https://medium.test/@bob/a-story-1a2b3c4d5e6f
https://unpkg.com/react@18.2.0/umd/react.js
https://fonts.test/css2?family=Inter:wght@400;700
git+https://github.com/o/r.git@v1.2.3
pkg:npm/%40angular/core@12.0.0
127.0.0.1:5432:5432
"5432:5432"
src/app.py:12:34: E501 line too long
docker run -u 1000:1000 -p 8080:80 nginx
curl -u https://h.test
ssh -p 2222 host
mkdir -p a/b
<input type="password" name="password" autocomplete="current-password">
<input type="password" id="id_password1" required>
<label for="id_password">Password:</label>
<th>Password</th><td>****</td>
input[type="password"] { color: #a1b2c3 }
$("#password2").val()
document.querySelector("#id_new_password1")
<meta name="csrf-token" content="{{ csrf_token() }}">
"""

# Written after the rules and without looking at them.
_HELD_OUT = r"""
the token bucket refills 5/s
token_count: 1532
self.token_index = 42
password_hash: str | None = None
hash_password(pw, salt=os.urandom(16))
if not verify_password(form.password, user.password_hash): raise Unauthorized401()
return jwt.encode({"sub": user.id}, settings.JWT_SECRET, algorithm="HS256")
JWT_ALGORITHM = "HS256"
ACCESS_TOKEN_EXPIRE_MINUTES = 60 * 24 * 8
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="/api/v1/login/access-token")
def get_current_user(token: str = Depends(oauth2_scheme)) -> User:
secrets.token_urlsafe(32)
token = secrets.token_hex(16)
password = Faker("password", length=12)
PASSWORD_MIN_LENGTH = 12
The login page asks for a password; see templates/registration/login.html line 42.
Fix #1234: password reset token reuse (CVE-2024-12345)
token.line == other.line and token.col == 7
"tokens_used": 1187, "budget": 1200
keyring.get_password("stratum", "redis")
const [password, setPassword] = useState("");
onChange={(e) => setPassword(e.target.value)}
<PasswordInput value={password1} onChange={setPassword1} />
type Credentials = { username: string; password: string };
interface Props { token?: string; secret: Buffer }
fn new(token: Token<'a>, kind: TokenKind) -> Self {
let token = self.advance();
pub struct Secret<T>(T);
func (c *Client) SetToken(token string) *Client {
if err := auth.CheckPassword(ctx, req.Password); err != nil {
Password string `json:"password" validate:"required,min=8"`
token := strings.TrimPrefix(h, "Bearer ")
@Value("${spring.datasource.password}")
spring.datasource.password=${DB_PASSWORD:}
secret = var.db_secret_arn
password = random_password.db.result
password = aws_secretsmanager_secret_version.db.secret_string
secret_arn: arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf
- secretRef: {name: app-secrets-v2}
imagePullSecrets: [{name: regcred2}]
key: "a.b.c"
key=lambda x: x[1]
sorted(d, key=itemgetter(1))
localStorage.setItem("token", response.data.token)
token: "${{ github.token }}"
with: { token: ${{ secrets.PAT_V2 }} }
RUN --mount=type=secret,id=npmrc cat /run/secrets/npmrc
pre-commit: detect-private-key
cookie: httponly, samesite=lax, max-age=1209600
Set-Cookie: csrftoken=; expires=Thu, 01 Jan 1970 00:00:00 GMT
curl -X POST -d '{"password": "<pw>"}' http://localhost:8000/api/token/
feat(auth): rotate the api key every 30d
api_key_header = APIKeyHeader(name="X-API-Key")
x-api-key: {{apiKey2}}
password: process.env["PW2"]
os.environ.setdefault("PGPASSWORD", pw2)
subprocess.run(["psql", "--no-password", "-h", host1])
git config credential.helper store
the secret santa list has 12 names
passing 3 arguments, expected 4
Keypass: see KeePass2 vault "ops"
"passport": "0.6.0", "passport-local": "^1.0.0",
"jsonwebtoken": "^9.0.2",
tiktoken==0.7.0
secretstorage = {version = ">=3.2", markers = "sys_platform == 'linux'"}
django-tokenauth-v2==1.0.3
password-validator: 5.3.0
The cache key includes the blob id and the branch2 name
key: user:42:profile
`memory.get(token)` returns None after 30s
token budget = 1200
test_redact.py::test_password[case2] PASSED
TokenError: unexpected token '}' at line 12:34
SyntaxError: Unexpected token in JSON at position 0
token: IDENT2
expect(token.type).toBe("IDENT2")
secret_name = "prod/db2/password"
passwordless login via WebAuthn2
bcrypt cost 12, password max 72 bytes
key_id: 0x1f2e3d4c
ssh key fingerprint SHA256:abcdEFGHijklMNOPqrstUVWXyz0123456789abcdEFG
password=password1 if use_first else password2
kwargs["password"] = options["password2"]
set_password(new_password1)
mock.patch("app.auth.check_password", return_value=True)
<PasswordField name="password2" label={t("auth.password2")} />
"password": "$t(auth.password)"
password_validation.validate_password(password2, self.user)
keys = {"a1": 1, "b2": 2}
data-token-id="tok_12"
"token_url": "https://oauth2.googleapis.com/token",
"client_id": "1234567890-abc123def456.apps.googleusercontent.com"
SSLKEYLOGFILE=/tmp/keys.log
gpg --export-secret-keys ABCD1234EF567890
api_key_id = 12
rate limit per api key: 100/min
secrets: inherit
credential: Credential2 | None
--with-secret=id=mysecret2,src=./file
passed=128 failed=2
pw, err := gopass.GetPasswd()
CREDENTIALS_FILE=/etc/app/creds.json
"""

# Once masked in the sources of Django and of Python.
_FOUND = r"""
Don't pass non-elements to jQuery#find
"Passwort vergessen? Einfach die Adresse eingeben"
self.assertEqual(passValue('string\u20ac'), 'string\u20ac')
the password field2 is hidden
wgs84_auth = SpatialReference(4326, axis_order=AxisOrder.AUTHORITY)
errors["password1"] = "Forbidden value."
USER_PASSWD = "%s:%s" % (USER, PASSWD)
"""


def _lines(block: str) -> list[str]:
    return [line for line in block.splitlines() if line]


LOOKALIKES = [
    line
    for block in (_IDENTIFIERS, _PLACEHOLDERS, _CODE, _PROSE, _PLACES, _HELD_OUT, _FOUND)
    for line in _lines(block)
]
