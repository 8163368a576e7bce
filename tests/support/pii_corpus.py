"""What is personal as people write it, and what only looks like it: written by hand, before the
recognisers were read.

A value stands between ⟦ and ⟧. A line may stand for several: `{a|b}` is each of its readings.
Everything is invented or from ranges that nobody holds, but for the addresses of public services.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

POSITIVE = {
    "email": """
Questions? Write to ⟦jovana.petrovic@{elektro|zadruga|bgd-servis}.rs⟧ before Friday.
Kontakt: ⟦info@{primarie-ungheni|lex|moldtelecom-partner}.md⟧
Consultas a ⟦ventas@{tereré|ferreteria|copaco-cliente}.py⟧ o por la tarde en el local.
biuro: ⟦anna.nowak@{sklep|kancelaria-nowak}.pl⟧ (pon-pt)
Mail ⟦sjon@{vlottur|tröll|skip}.is⟧, he answers in a day.
Our man in Jamestown is ⟦peter@{island|harbour}.sh⟧.
⟦ana@{studio|clip}.mov⟧ and ⟦bob@{archive|pack}.zip⟧ are real mailboxes these days.
Écrire à ⟦jean-françois.lefèvre@{exemple-libre|mairie-vannes}.fr⟧ pour le devis.
Bitte an ⟦max.müller@{bäckerei-müller|köln-süd}.de⟧ schicken.
mailto:⟦first.last+newsletter@{mail.sub.domain-x|lists.domain-x}.co.uk⟧?subject=Hi
Send it to ⟦O'Brien@{dublinlaw|corkbay}.ie⟧ today
<⟦dave_smith99@{gmaıl-x|yahoo-like}.com⟧>
Reach me: ⟦JANE.DOE@{BIGCORP-X|UPPER-X}.COM⟧!
Email＝⟦ｔａｒｏ＠ｙａｍａｄａ{－|}ｓｙｏｕｔｅｎ．ｊｐ⟧
メール：⟦sato＠{kaisya|mise}.co.jp⟧まで
邮箱：⟦wangwei88@{qiye-x|gongsi-x}.cn⟧，欢迎来信。
이메일 ⟦minsu.kim@{hoesa-x|gage-x}.co.kr⟧로 보내 주세요
Почта: ⟦ivan.petrov@{zavod-x|shkola-x}.рф⟧
Contact ⟦lena (at) {praxis-x|kanzlei-x} (dot) de⟧ only.
⟦carlos {[at]|[AT]|(at)|{at}} tienda-x {[dot]|(dot)|.} mx⟧
⟦marie at {domaine-x|atelier-x} dot fr⟧
⟦karl[ät]{schule-x|verein-x}[punkt]de⟧
⟦sophie (arobase) {ecole-x|gîte-x} (point) fr⟧
⟦luis arroba {colegio-x|taller-x} punto es⟧
Ask ⟦tom@{team|crew}.solutions-x.io⟧, cc ⟦kim@{team|crew}.solutions-x.dev⟧.
<a href="mailto:⟦press@{agency-x|bureau-x}.museum⟧">press</a>
⟦root@{mx1|relay}.example-hosting.net⟧ sent a bounce
Author: Rin Tanaka <⟦rin@{rustaceans-x|crab-x}.rs⟧>
From: ⟦b.k@{x1|y2}.photography⟧
e-mail:⟦a@{q-x|z-x}.co⟧
⟦zoé@{café-x|thé-x}.paris⟧
⟦j​ohn@{split-x|zero-x}.com⟧ has an invisible character in it
⟦jo­hn.smith@{soft-x|shy-x}.org⟧
E-mail: ⟦kate @ {spaced-x|gap-x} . com⟧
⟦accounts%eu@{route-x|path-x}.eu⟧
⟦x_{1|2}@sub-1.sub-2.sub-3.example-co.com.br⟧
"⟦nurse.{day|night}@clinic-x.health⟧",
→⟦hello@{arrow-x|bow-x}.app⟧←
⟦sales@{xn--bcher-kva|xn--mnchen-3ya}.ch⟧
Svar til ⟦ås{a|e}@fjell-x.no⟧.
Für Fragen: ⟦k.weiß@straße-x.de⟧
drop a line @ ⟦sue_99@moor.cc⟧
E-postadress: ⟦lars.öberg@kommun-x.se⟧
⟦dev@tools.sh⟧;⟦ops@tools.ai⟧
contact＿us：⟦ｉｎｆｏ＠ｅｘａｍｐｌｅ－ｘ．ｃｏｍ⟧
⟦bob-at-home@x-y.net⟧
⟦mike[at]bikes[dot]co[dot]uk⟧
⟦anna <at> praxis <dot> ch⟧
⟦joe AT corp DOT com⟧
⟦info@firma-x․de⟧
⟦jane@mail.company-x.c​om⟧
⟦joe&#64;shop-x.com⟧
⟦max|at|web-x|dot|de⟧
⟦info*at*haus-x.de⟧
⟦ana[@]tienda-x.com⟧
URL: https://x.example/?u=⟦jan%40firm-x.de⟧&k=1
Mail:⟦kai@x.tools⟧。
написать на ⟦анна@почта-x.рф⟧
emails⟦a.b@c-d.org⟧,⟦e.f@c-d.org⟧
""",
    "ip": """
Banned {8.8.4.4|} ⟦81.2.69.{142|17}⟧ for spam
IP: ⟦93.184.216.{34|35}⟧
The edit was made by ⟦203.104.15.{9|77}⟧ (talk)
login from ⟦178.62.{3|41}.190⟧, port 22
⟦89.160.20.{112|128}⟧ - - [10/Oct/2025:13:55:36 +0000] "GET / HTTP/1.1" 200
Failed password for root from ⟦45.33.32.{156|157}⟧ port 4022 ssh2
http://⟦151.101.1.{69|70}⟧:8080/index.html
His address ⟦2001:db9:85a3::8a2e:370:{7334|7335}⟧ appeared twice.
peer=[⟦2a00:1450:4001:81b::{200e|200f}⟧]:443
(⟦2600:1f18:{42|43}::5⟧)
connect ⟦2A02:C7D:{9|A}B2::1⟧.
X-Forwarded-For: ⟦5.9.{77|78}.10⟧, ⟦77.88.{8|55}.8⟧
IP-Adresse: ⟦194.{25|26}.0.60⟧
adresse IP ⟦80.{10|11}.246.2⟧.
ＩＰ：⟦２１０．１３０．{１|２}．５⟧
IP地址：⟦114.114.{114|115}.9⟧已封禁
IP アドレス⟦133.{11|12}.0.1⟧から
IP-адрес ⟦95.{108|109}.213.7⟧ заблокирован
⟦72.{14|15}.192.1⟧/32
client ⟦[2a01:4f8:c{0|1}c::2]⟧ closed
user@⟦185.{199|200}.108.153⟧
"ip":"⟦104.{16|17}.132.229⟧"
ip=⟦66.{102|103}.0.1⟧&id=4
⟦62.{210|211}.0[.]14⟧ was the attacker
hxxp://⟦193[.]{56|57}[.]28[.]103⟧/x
remote ⟦185.{3|4}.4.5⟧:51413,
::ffff:⟦81.2.{69|70}.160⟧
⟦2a03:2880:f1{1|2}c:8183:face:b00c:0:25de⟧
Host ⟦91.{198|199}.174.192⟧ did not answer.
addr:⟦217.{160|161}.0.1⟧;
banned IP ⟦8.8.8.8⟧
Server at ⟦1.1.1.1⟧ answered
64 bytes from ⟦23.21.10.5⟧: icmp_seq=1
inet6 ⟦2001:470:1f0b:5::2⟧/64
Adresse IP : ⟦90.12.45.3⟧
ssh root@⟦139.59.1.2⟧
⟦188.40.1.1⟧，来自德国
from unknown (HELO x) (⟦61.5.4.3⟧)
Received: from [⟦212.227.15.4⟧]
⟦2a0a:a540::1⟧%eth0
"client_ip": "⟦52.95.110.1⟧",
src=⟦40.77.167.2⟧ dst=10.0.0.1
最終ログイン ⟦126.12.13.14⟧
""",
    "phone": """
Tél. : ⟦01 42 68 53 {00|07}⟧
Tél ⟦04.91.{13|14}.89.00⟧
Téléphone : ⟦06-12-34-56-{78|79}⟧ (portable)
電話：⟦03-5253-{2111|2112}⟧
TEL：⟦０３－５２５３－{２１１１|２１１２}⟧
お電話は⟦0120-{444|445}-113⟧まで
携帯：⟦090-1234-{5678|5679}⟧
Telefonnummer: ⟦030 1234{567|568}⟧
Telefon ⟦089/{22 33 44-0|22 33 45-0}⟧
Tfn: ⟦08-{505|506} 290 00⟧
Mobil: ⟦0151 {23456789|23456780}⟧
Handy ⟦0170/{1234567|1234568}⟧
手机：⟦138{0013|0014}8000⟧
手机号 ⟦139 1234 {5678|5679}⟧
电话：⟦010-{62781234|62781235}⟧
联系电话:⟦(021) {6279|6280}1234⟧
전화: ⟦02-{312|313}-3456⟧
휴대폰 ⟦010-{1234|1235}-5678⟧
Тел.: ⟦8 (495) {123|124}-45-67⟧
телефон ⟦8-916-{123|124}-45-67⟧
моб. ⟦067 {123|124} 45 67⟧
Teléfono: ⟦91 {123|124} 45 67⟧
Tlf. ⟦22 {33|34} 44 55⟧
Tlf: ⟦912 {345|346} 678⟧
Móvil ⟦612 34 56 {78|79}⟧
Celular: ⟦11 9{8765|8766}-4321⟧
Telefone: ⟦(11) {3456|3457}-7890⟧
Tel.: ⟦021 {312|313} 45 67⟧
Telefono ⟦06 {6982|6983}1⟧
Cell. ⟦347 {1234567|1234568}⟧
Puhelin: ⟦09 {1234|1235} 567⟧
Puh. ⟦040 {123|124} 4567⟧
Telefoon: ⟦020-{624|625} 1111⟧
Tel ⟦+44 20 7946 0{123|124}⟧
Phone: ⟦(212) 736-{5000|5001}⟧
Phone ⟦020 7946 {0958|0959}⟧
Mobile: ⟦07700 900{123|124}⟧
call ⟦1-800-{356|357}-9377⟧ now
Call us on ⟦0800 {111|112} 4567⟧
Ring ⟦01632 960{123|124}⟧ after six
Fax: ⟦030-{2345|2346}678⟧
Fax ⟦(030) {2345|2346}679⟧
WhatsApp ⟦+55 11 9{8765|8766}-4321⟧
WhatsApp: ⟦0812-3456-{7890|7891}⟧
⟦+33 (0)1 42 68 53 {00|01}⟧
⟦0033 1 42 68 53 {02|03}⟧
⟦+49-30-{1234567|1234568}⟧
⟦(415) 555-{2671|2672}⟧ ask for Ann
⟦415-{555|556}-2673⟧
⟦415.{555|556}.2674⟧ is my cell
τηλ. ⟦210 {123|124} 4567⟧
Τηλέφωνο: ⟦2310 {123|124} 456⟧
هاتف: ⟦011 {465|466} 1234⟧
Telefon: ⟦0212 {252|253} 52 53⟧
tel. kom. ⟦601 {234|235} 567⟧
tel. ⟦22 {621|622} 12 34⟧
tel: ⟦220 {123|124} 456⟧
Tel.: ⟦(1) {302|303}-1234⟧
mob: ⟦98{765|766} 43210⟧
Mobile No. ⟦9876{5|6} 43210⟧
फ़ोन: ⟦011-{23438000|23438001}⟧
โทร. ⟦02-{123|124}-4567⟧
ĐT: ⟦024 {3825|3826} 1234⟧
Điện thoại: ⟦090 {123|124} 4567⟧
Hp. ⟦0813-{1234|1235}-5678⟧
טלפון: ⟦03-{697|698}1234⟧
Phone number
⟦020 7946 0{321|322}⟧
Telephone: | ⟦0161 496 0{123|124}⟧ |
Tel:	⟦0113 496 0{123|124}⟧
Phone​: ⟦(646) 555-0{123|124}⟧
T: ⟦0131 496 0{123|124}⟧
T ⟦01 {2345|2346} 678⟧ / M
☎ ⟦0{89|88} 1234 567⟧
📞 ⟦05 56 {00|01} 60 00⟧
tel:⟦01-4{268|269}-5300⟧
TELÉFONO ⟦954 {123|124} 456⟧
Telephone (office): ⟦0171 {4960|4961} 88⟧
Tel. privat: ⟦044 {668|669} 18 00⟧
Phone/Fax: ⟦021 {424|425} 3355⟧
Ansprechpartner: Herr Maier, Tel. ⟦07031/81-2345⟧
T +41 44 ⟦668 18 00⟧
Tel.-Nr.: ⟦0221 9876543⟧
Telefon (Zentrale): ⟦0711 2345-0⟧
Rufnummer ⟦0800 3301000⟧
Rückruf unter ⟦0221 1234567⟧
Tél. fixe : ⟦02.97.12.34.56⟧
Tel./Fax: ⟦0341 234567⟧
Port. ⟦06 12 34 56 78⟧
Joignable au ⟦06 12 34 56 78⟧
Contact : ⟦07 81 23 45 67⟧
Llámanos al ⟦900 123 456⟧
Tel. oficina: ⟦93 123 45 67⟧
Fone: ⟦(21) 99876-5432⟧
Ligue para ⟦(11) 4002-8922⟧
Numero di telefono: ⟦02 1234567⟧
Numero verde ⟦800 123456⟧
Tlf nr ⟦55 12 34 56⟧
Telefonnr. ⟦70 20 30 40⟧
Puhelinnumero ⟦050 1234567⟧
telefon komórkowy: ⟦601-234-567⟧
nr tel. ⟦501 234 567⟧
numer telefonu: ⟦22 123 45 67⟧
Telefonní číslo: ⟦224 123 456⟧
Mobiltelefon: ⟦06 30 123 4567⟧
Telefonszám: ⟦06 1 234 5678⟧
Телефон для справок: ⟦8 (800) 555-35-35⟧
тел./факс ⟦(812) 123-45-67⟧
контактный телефон ⟦8(921)123-45-67⟧
電話番号 ⟦06-6123-4567⟧
TEL ⟦06-6123-4567⟧ FAX ⟦06-6123-4568⟧
問い合わせ先：⟦03-1234-5678⟧
フリーダイヤル ⟦0120-123-456⟧
联系方式：⟦13912345678⟧
客服热线：⟦400-820-8820⟧
微信同号：⟦13812345678⟧
電話 ⟦(02) 2720-8889⟧
대표전화 ⟦1588-1234⟧
연락처: ⟦010.1234.5678⟧
رقم الهاتف: ⟦0501234567⟧
جوال ⟦٠٥٠١٢٣٤٥٦٧⟧
תל ⟦03-5123456⟧
Phone No: ⟦98201 23456⟧
Contact No.: ⟦98201-23456⟧
Mob. no. ⟦9820123456⟧
Ph: ⟦022-23456789⟧
Ph. ⟦(02) 9876 5432⟧
Cell#: ⟦082 123 4567⟧
M: ⟦0412 345 678⟧
P ⟦09 123 4567⟧
Tel: ⟦6123 4567⟧
Hotline: ⟦1900 1234 56⟧
SĐT: ⟦0912.345.678⟧
No. HP: ⟦0812 3456 789⟧
No. Telp ⟦(021) 5551234⟧
Text or call ⟦(503) 555-0199⟧
reach me at ⟦503-555-0142⟧
my number is ⟦07911 123456⟧
Toll-free: ⟦1 (866) 555-1234⟧
Fax No. ⟦020 7123 4567⟧
Telephone⟦: 01223 123456⟧
Sími ⟦555 1234⟧
GSM ⟦0532 123 45 67⟧
Cep: ⟦0532 123 45 67⟧
İletişim: ⟦0212 123 45 67⟧
Zürich, Tel ⟦044 123 45 67⟧
""",
    "card": """
My Visa is ⟦{V16s}⟧ exp 04/28
card: ⟦{V16-}⟧
{V16p}
⟦{M16s}⟧ MasterCard
⟦{M16n}⟧,
Amex ⟦{A15s}⟧ ok
⟦{A15n}⟧
Karte Nr. ⟦{V16n}⟧
カード番号：⟦{V16f}⟧
卡号 ⟦{M16s}⟧
n° ⟦{V16.}⟧
⟦{V16_}⟧ (long spaces)
numéro ⟦{M16-}⟧ cvv 123
pan={V16q}
Diners ⟦{D14n}⟧
Diners ⟦{D14s}⟧
⟦{J16s}⟧ JCB
Discover ⟦{S16-}⟧
cc:⟦{M16n}⟧;exp
⟦{V16z}⟧
card⟦{V16s}⟧card
kredi kartı: ⟦{V16s}⟧
card no ⟦{M16n}⟧x
number:⟦{V16n}⟧
⟦{A15s}⟧.
CC#⟦{V16n}⟧
""",
    "iban": """
IBAN: ⟦{DEs}⟧
⟦{DEn}⟧ bei der Bank
Iban ⟦{FRs}⟧
⟦{GBn}⟧.
conto ⟦{ITs}⟧
⟦{ESl}⟧ minuscule
IBAN⟦{NLs}⟧
rek. ⟦{BE-}⟧
⟦{CHs}⟧ (CHF)
⟦{NOs}⟧
pay to ⟦{PLn}⟧, thanks
⟦{SEs}⟧ mottagare
＝⟦{ATf}⟧
⟦{IE.}⟧
⟦{DEx}⟧ nbsp
⟦{PTs}⟧; BIC
Kontonummer (IBAN) ⟦{DEs}⟧
iban: ⟦{FRl}⟧
IBAN ⟦{GBx}⟧
RIB ⟦{FRs}⟧
(⟦{NLn}⟧)
账号⟦{DEn}⟧
""",
}

NEGATIVE = """
Please call 2025-03-{14|15} for the minutes.
call 12/04/{2024|2025} the day it was
The call on 24.12.{2024|2025} was cancelled.
Last call: 2024-05-01 {10:00|10:30}
Call for papers 15.03.{2026|2027}
git clone git@{github|gitlab|bitbucket}.{com|org}:acme/tool.git
ssh://git@{codeberg|github}.org/acme/tool.git
npm install left-pad@1.{3|4}.0
see logo@{2x|3x}.png and icon@{2x|3x}.webp
background: url(sprite@{2x|1.5x}.svg)
@media (min-width: 1024px) {...}
follow @rustlang and @python.org_fan on the site
actions/checkout@v{3|4}
image: registry.acme-x.io/tool@sha256:\
9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
version 1.2.{3|4}.4 of the driver
Firmware v10.4.{3|7}.12 was released
release 2.14.0.{1|2} fixes it
section 4.3.2.{1|2} of the standard
Chrome/124.0.{6367|6312}.78 Safari/537.36
see §3.{2|4}.1.7
bind to 127.0.0.1:{80|8080}
gateway 192.168.{0|1}.1
10.0.{0|3}.5 is the database
use 192.0.2.{1|2} in examples
mask 255.255.255.{0|128}
fe80::{1|2} is link-local
listen on ::1 or 0.0.0.0
std::vec::Vec and a::b::c
12:34:{56|57} on the clock
the MAC 00:1b:44:11:3a:{b7|b8}
ISBN 978-3-16-148410-{0|1}
ISBN-13: 978 0 306 40615 {7|8}
order 4539-{1488|1489}-0343-6461 shipped
invoice no. 2024-{00123|00124}
invoice number 4111 1111 1111 111{2|3}
order id 123456789012345{6|7}
EAN 40063813339{31|32}
timestamp 16094592{00|01}
unix time 1700000000{123|124}
pi is 3.14159265358979{32|33}
at 52.520008, 13.4049{54|55}
population 1 234 {567|568}
9 007 199 254 740 99{2|3} is the limit
the sum was 12 345 678,{90|91} €
between 1939-{1945|1946} and later
years 1990 1991 1992 19{93|94}
chapters 1, 2, 3, 4, 5, 6, {7|8}
doi:10.1000/xyz{123|124}
arXiv:1910.{10683|06116}
RFC {7231|9110} section 15.4.5
phone 12 Pro Max {256|512} GB
my phone cost 1299 {99|95}
The Nokia phone {3310|8110} of 1998-2001
the phone: 5000 mAh, 6.1 inch, 120 Hz
Tel Aviv, 2023-06-{01|02}
Tel Aviv 61999 in {1998|1999}
telephone invented 1876-03-{10|11}
Telefon 1876 von Bell, 1861 von {Reis|Meucci}
telephones sold: 1 200 {000|500}
mobile 1920 x {1080|1200}
fax machines of 1985 1986 {1987|1988}
call f(1, 2, 3, 4, 5, 6, {7|8})
callback 0x7ffee4b0{12|13}
call 5 or 6 friends at {10|11}
Ring 0, ring 1, ring 2, ring {3|4}
The ring of 1848 and 18{76|77}
Tel. rates rose 3.5 % in 2021-{2022|2023}
ext. 4{5|6} m of cable
T: 300 K, p: 101 {325|326} Pa
T 1000 1200 14{00|50} K
pages 101-{108|118}, vol. 24
score 21-19 21-{18|17}
2024-01-01T00:00:00+0{1|2}:00
uuid 123e4567-e89b-12d3-a456-4266141740{00|01}
sha 2fd4e1c67a2d28fced849ee1bb76e7391b93eb1{2|3}
part number 555-{0142|0143}-A
GB 2312-{1980|1981} and DE 2024
DE2024 0001 0002 000{3|4}
FR76 is the {prefix|start} of it
ISO 13616-1:20{07|20}
NL 2015 2016 2017 20{18|19}
電話番号は10桁または11{桁|個}です
電話料金 1,200円（2024年{4|5}月）
电话会议 2024-05-{06|07}
电话 3 分钟 120 {元|块}
手机 2023 年 12 月 {31|30} 日
전화 요금 12,000원 2024.01.{01|02}
телефон 2024 года, 128 {ГБ|Гб}
Teléfono móvil de 2023 con 128 {GB|gigas}
tél. modèle 2019-{2020|2021}
price 020 {kg|g}
$1,234,567.{89|90}
0.123456789012345{6|7}
ffmpeg -r 30000/100{1|2}
resolution 3840x2160@{60|120}Hz
user@localhost or admin@{server|router}
foo@bar in a {shell|prompt}
def f(a @ b): return a.{T|mT}
x = A @ B.T + C @ D.{T|H}
@dataclass.field of {py|python}
call 911 or {112|999}
dial {110|119} in an emergency
GET /v1/accounts/84729103847{2|3}
ticket #20240501{001|002}
AS15169, AS{13335|32934}
port 5432 5433 543{4|5}
EUR/USD 1.0845 1.0846 1.08{47|48}
meet at noon . com and {go|see}
look at me dot {by dot|for dot}
we are at the office dot {the end|enough}
"""

# Written later, by somebody who had not read the recognisers. Nothing in it is expanded.
UNSEEN = r"""
# EMAIL
Schreib mir einfach an ⟦jonas.brandt@web.example.de⟧, ich antworte meistens am selben Tag.
Reach the maintainers: ⟦core-team+security@lists.openwidget.org⟧.
To: "Müller, Anke" <⟦anke.mueller@stadtwerke-koblenz.de⟧>
mailto:⟦o'brien@rathmore.ie⟧?subject=Hello
Contact me at ⟦bianca (at) fotostudio (dot) it⟧
⟦lena [at] posteo [dot] de⟧
e-mail: ⟦kontakt@bücherwurm.de⟧
Почта: ⟦ivan.petrov@mail.ru⟧, пишите в любое время
メール：⟦tanaka.h@docomo.ne.jp⟧まで
邮箱⟦zhangwei1988@163.com⟧，欢迎来信
이메일 ⟦kim_minsu@naver.com⟧으로 보내주세요
البريد الإلكتروني: ⟦ahmed.saleh@gmail.com⟧
Correo: ⟦M.GARCIA@UNIV-SEVILLA.ES⟧
"email":"⟦dev.null@startup.io⟧","active":true
Author: Ruth Keller <⟦ruth@keller.dev⟧>
Signed-off-by: Pavel N <⟦pavel@nemec.cz⟧>
you can mail ⟦info@musée-lyon.fr⟧ or drop by
⟦a@b.co⟧ is the shortest I ever had
ask ⟦postmaster@mail.hosting.co.uk⟧;cc ⟦abuse@mail.hosting.co.uk⟧
Escríbeme a ⟦pepe.perez@yahoo.com.ar⟧!!!
<⟦12345678@qq.com⟧>
my work address (⟦s.lindqvist@bolaget.se⟧) bounced
user=⟦carol@acme.com⟧&token=none
https://example.com/unsubscribe?email=⟦dora@freenet.de⟧
⟦nikos AT otenet DOT gr⟧
⟦support＠shop.co.jp⟧
Mail: ⟦hanna.virtanen@helsinki.museum⟧
⟦first.last@sub.dept.uni-graz.ac.at⟧ (office hours Tue)
skriv till ⟦åsa@företag.se⟧
⟦x_y-z%w@sender.net⟧ is in the From line
Kontaktní e-mail:⟦novakova@seznam.cz⟧|fax není
git config user.email ⟦tom@workstation.rs⟧
Envie para ⟦joao.silva@uol.com.br⟧.Obrigado
⟦gül.demir@ornek.com.tr⟧
Impressum: ⟦redaktion(at)zeitung-nord.de⟧
Send a note to ⟦mei@xn--fiqs8s⟧ please
⟦pieter@bedrijf.amsterdam⟧ of ⟦els@bedrijf.amsterdam⟧
# IP
Last login: Tue Mar  3 from ⟦81.2.69.160⟧
⟦185.60.216.35⟧ - - [10/Oct/2026:13:55:36 +0000] "GET / HTTP/1.1" 200 2326
Failed password for root from ⟦91.240.118.172⟧ port 48022 ssh2
Мой IP ⟦95.165.12.77⟧, забаньте его
我的IP地址是⟦114.114.114.114⟧。
X-Forwarded-For: ⟦193.99.144.80⟧, 10.0.0.3
remote=[⟦2a00:1450:4001:81b::200e⟧]:443
client ⟦2606:4700:4700::1111⟧ connected
ping ⟦2001:4860:4860:0:0:0:0:8888⟧
ssh admin@⟦62.210.16.6⟧
http://⟦46.4.84.25⟧:8080/status
nameserver ⟦9.9.9.9⟧
"ip": "⟦151.101.1.69⟧"
::ffff:⟦77.88.8.8⟧
IP：⟦２０３.１０４.２０９.７⟧
Host ⟦213.186.33.5⟧/32 was blocked
edited by ⟦88.198.50.103⟧ (talk) 12:04, 5 May 2011
Your address (⟦5.9.0.1⟧) is on our list
iptables -A INPUT -s ⟦45.83.64.1⟧ -j DROP
tcp ⟦37.187.99.79⟧.443 > 10.1.1.2.52100
the box at ⟦2a01:4f8:0:1::add:1010⟧, in Nürnberg
fe80::1%eth0 and ⟦2a02:2e0:3fe:1001:302::⟧
[client ⟦195.201.33.12⟧:51234] File does not exist
от ⟦2a02:6b8::feed:0ff⟧ пришёл запрос
Received: from mail ([⟦80.67.169.12⟧])
IP=⟦109.190.4.3⟧;UA=curl
# PHONE
Tél. ⟦01 99 00 12 34⟧ (sauf le lundi)
Tel: ⟦+49 30 23125 041⟧
Telefon ⟦030/23125-045⟧
Rufen Sie an: ⟦0171 3920041⟧
Handy: ⟦0152-28817386⟧
Call us on ⟦020 7946 0958⟧ before five
Phone ⟦(555) 555-0142⟧ ext. 12
⟦+1-202-555-0173⟧
text me at ⟦202.555.0188⟧
Mob. ⟦+44 7700 900123⟧
Teléfono: ⟦91 123 45 67⟧
Móvil ⟦612 34 56 78⟧
WhatsApp ⟦+55 11 91234-5678⟧
Fone: ⟦(11) 3456-7890⟧
Celular ⟦(21) 99876-5432⟧
Tel. ⟦06 5551234⟧, chiedere di Paolo
Cell. ⟦347 1234567⟧
tel ⟦020-555 01 23⟧
Telefoon: ⟦010-1234567⟧
Tlf. ⟦22 12 34 56⟧
Tlf: ⟦+45 33 12 34 56⟧
Puh. ⟦09 1234 5678⟧
Puhelin: ⟦040 123 4567⟧
Tel. ⟦(22) 555 01 23⟧
tel. kom. ⟦601 234 567⟧
Telefon: ⟦+420 224 123 456⟧
Тел.: ⟦8 (495) 123-45-67⟧
моб. ⟦+7 916 123 45 67⟧
телефон ⟦044 123-45-67⟧
Τηλ. ⟦210 1234567⟧
電話 ⟦03-1234-5678⟧
携帯：⟦090-1234-5678⟧
TEL：⟦０６－１２３４－５６７８⟧
电话：⟦010-12345678⟧
手机号 ⟦13912345678⟧
联系电话: ⟦(021) 6123 4567⟧
전화: ⟦02-123-4567⟧
휴대폰 ⟦010-1234-5678⟧
هاتف: ⟦+966 11 123 4567⟧
טלפון: ⟦03-123-4567⟧
โทร. ⟦02-123-4567⟧
ĐT: ⟦024 3123 4567⟧
Hotline: ⟦1900 1234⟧
Telp. ⟦(021) 555-0123⟧
HP: ⟦0812-3456-7890⟧
फ़ोन: ⟦+91 98765 43210⟧
Mobile: ⟦98765 43210⟧
Ph: ⟦(02) 5550 1234⟧
Tel ⟦021 555 1234⟧ (Cape Town)
Cep: ⟦0532 123 45 67⟧
Telefon: ⟦(0212) 123 45 67⟧
Telefon: ⟦06 1 123 4567⟧
Fax ⟦0043 1 71100 1234⟧
Fax: ⟦+41 (0)44 123 45 67⟧
Appelez-moi au ⟦06.39.98.12.34⟧
Contact: Mary, ⟦+353 1 555 0123⟧
tel:⟦+12025550147⟧
Tel.nr. ⟦070-12 34 56⟧
Zadzwoń pod numer ⟦+48 22 555 01 23⟧
Sun ⟦(08) 123 45 67⟧ tel
# CARD
Card: ⟦4111 1111 1111 1111⟧ exp 12/29
my visa is ⟦4012888888881881⟧
⟦5555-5555-5555-4444⟧
Amex ⟦3782 822463 10005⟧
amex 15 digits ⟦378282246310005⟧
⟦6011 1111 1111 1117⟧ (Discover)
JCB：⟦3530111333300000⟧
Diners ⟦3056 930902 5904⟧
信用卡号⟦4242424242424242⟧，有效期12/28
"pan":"⟦5105105105105100⟧"
Kreditkarte Nr. ⟦2223 0031 2200 3222⟧
carte bancaire : ⟦4000 0566 5566 5556⟧
номер карты ⟦4276 5500 0000 0003⟧
カード番号 ⟦４２４２－４２４２－４２４２－４２４２⟧
UnionPay ⟦6200 0000 0000 0005⟧
Maestro ⟦6759 6498 2643 8453⟧
⟦4111.1111.1111.1111⟧
number=⟦4242424242424242⟧&cvc=123
paid with ⟦5200 8282 8282 8210⟧.
MIR ⟦2200 0000 0000 0004⟧
⟦4111 1111 1111 1111⟧
cc: ⟦371449635398431⟧
tarjeta ⟦4012-8888-8888-1881⟧
بطاقة ⟦5555 5555 5555 4444⟧
# IBAN
IBAN: ⟦DE89 3704 0044 0532 0130 00⟧
IBAN ⟦GB29 NWBK 6016 1331 9268 19⟧
virement sur ⟦FR14 2004 1010 0505 0001 3M02 606⟧
⟦ES9121000418450200051332⟧
Coordinate: ⟦IT60 X054 2811 1010 0000 0123 456⟧
rekening ⟦NL91ABNA0417164300⟧ t.n.v. Jansen
⟦BE68 5390 0754 7034⟧
Konto ⟦ch93 0076 2011 6238 5295 7⟧
AT-IBAN:⟦AT611904300234573201⟧
nr konta ⟦PL61 1090 1014 0000 0712 1981 2874⟧
⟦SE45 5000 0000 0583 9825 7466⟧
⟦NO93-8601-1117-947⟧
DK: ⟦DK50 0040 0440 1162 43⟧
Tili ⟦FI21 1234 5600 0007 85⟧
⟦PT50 0002 0123 1234 5678 9015 4⟧
ΙΒΑΝ: ⟦GR16 0110 1250 0000 0001 2300 695⟧
účet ⟦CZ65 0800 0000 1920 0014 5399⟧
⟦RO49 AAAA 1B31 0075 9384 0000⟧
IBAN numarası ⟦TR33 0006 1005 1978 6457 8413 26⟧
آيبان ⟦SA03 8000 0000 6080 1016 7519⟧
⟦AE07 0331 2345 6789 0123 456⟧
IBAN(⟦IE29 AIBK 9311 5212 3456 78⟧)
рахунок ⟦UA21 3223 1300 0002 6007 2335 6600 1⟧
"iban":"⟦LU280019400644750000⟧"
⟦ＤＥ８９３７０４００４４０５３２０１３０００⟧
# NEGATIVE
pip install requests==2.31.0.1
Version 10.0.19045.3803 of Windows
Chrome/120.0.6099.130 Safari/537.36
Section 4.3.2.1 covers the edge cases
listen on 127.0.0.1:8080 and 192.168.1.20
10.12.0.5 talks to 172.16.3.9
subnet mask 255.255.255.0
0.0.0.0/0 means everywhere
OID 1.3.6.1.4.1.311.21
build 6.1.7601.17514 (win7sp1_rtm)
std::vector<int>::iterator it
MAC 00:1b:44:11:3a:b7
at 12:34:56 the train left
fe80::1ff:fe23:4567:890a is link-local
::1 localhost
2001:db8::1 is for documentation
ratio 16:9:4:3
git@github.com:user/repo.git
git clone ssh://git@gitlab.com/group/project.git
@media (max-width: 600px)
@app.route("/login")
follow @jack on twitter
numpy @ file:///tmp/build
import foo@1.2.3 from npm: lodash@4.17.21
price: 3 @ $4.50 each
logo@2x.png
react@18.2.0
meet me at noon dot com era was wild
we looked at him (at length) and left
user@localhost
root@web01:~#
mailbox@{date}
Order no. 4111 1111 1111 1112
ISBN 978-3-16-148410-0
EAN 4006381333931
ISSN 2049-3630
DOI 10.1000/182.2004.5678
pi = 3.14159265358979323846
tracking 1Z999AA10123456784
invoice 2026-000123-4567
9007199254740993 is 2^53+1
timestamp 1700000000000
epoch 1609459200 seconds
population 1,412,600,000 in 2021
the years 1914-1918 and 1939-1945
12-05-2024 to 13-06-2024
2026-11-30T21:43:34+00:00
call on 2024-05-12
Call 911 in an emergency
Phone support ended in 2019-2020
telephone was patented in 1876
Tel Aviv 2023 2024
fax sales fell from 1 200 000 to 300 000
mobile users: 5 310 000 000
Mobile 2021: 45 678 units
Tel. (see page 1234)
iPhone 15 Pro 256 GB 1199 EUR
Kontonummer gesucht, Seite 1234
+100 500 points for the team
temperature +12.5 to +18.3
score 21-19 17-21 21-15
x = 0123456789abcdef
#FF5733 and #00FF00
sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709
uuid 550e8400-e29b-41d4-a716-446655440000
DE89 is a road near Ulm
GB29NWBK60161331926818
model FR14-2004-1010
part no. AB12 3456 7890 1234
ES2021 and ES2022
coordinates 52.5200, 13.4050
N 48° 51' 24" E 2° 21' 7"
matrix 1 2 3 4 5 6 7 8 9 0
1234 5678 9012 3456
0000 0000 0000 0000
1111222233334444
ticket #20240512-00012
RFC 2616 section 14.35.1.2
seq 1000 2000 3000 4000
call(555, 1234567)
phone = models.CharField(max_length=20)
tel: none given
電話番号は公開していません（2024年5月12日）
电话费 12345678 元
手机销量 13912345678 台
тел. не указан, заказ 12345
телефон модели 3310 выпущен в 2000
téléphone portable à 1 299 000 FCFA
telefono 2.0 del 1999
room 0301 2345
postcode 10115 Berlin, 80331 München
size 10 x 20 x 30 cm, art. 4711-0815-1234
HRB 12345 Amtsgericht 67890
USt-IdNr. DE123456789
SIREN 123 456 789
BLZ 100 500 00
flight LH 0400, seat 12A, 2026
lat=+40.7128 lon=-74.0060
9 9 9 9 times
1.2.3.4.5.6
v1.2.3.4-rc1
section 8.8.8.8 of the contract
1,234,567.89 / 9.876.543,21
10/10/2026 10:10:10
123-45-6789-0123
gene 5'-ACGT-3' at 17:41197694-41276113
a@b is a group, b@a is not
x@y = y@x for commuting matrices
"""


@dataclass(frozen=True)
class Case:
    """A line, and where its personal values lie in it."""

    kind: str
    text: str
    values: tuple[tuple[int, int], ...]


def _luhn_check(digits: str) -> str:
    for last in "0123456789":
        doubled = [
            sum(divmod(int(digit) * (2 if place % 2 else 1), 10))
            for place, digit in enumerate(reversed(digits + last))
        ]
        if sum(doubled) % 10 == 0:
            return digits + last
    raise AssertionError


CARDS = {
    "V16": ["453914880343646", "402400710906632", "471629153873126", "4485" + "93174802615"],
    "M16": ["555341076123419", "510510510510999", "222300480001234", "5201294402991" + "77"],
    "A15": ["37144963539843", "34785512345678", "37873449367100"],
    "D14": ["3056930902590", "3852000002323"],
    "J16": ["353011133330000", "356600202036050"],
    "S16": ["601111111111111", "601100099013942"],
}
IBANS = {
    "DE": ["370400440532013000", "500105175407324931"],
    "FR": ["20041010050500013M02606", "30006000011234567890189"],
    "GB": ["NWBK60161331926819", "BARC20038041157768"],
    "IT": ["X0542811101000000123456", "L0300203280747117283916"],
    "ES": ["21000418450200051332", "00491500051234567892"],
    "NL": ["ABNA0417164300", "RABO0300065264"],
    "BE": ["539007547034", "096123456769"],
    "CH": ["00762011623852957", "04835012345678009"],
    "NO": ["86011117947", "93860111179"],
    "PL": ["109010140000071219812874", "102055610000310200171234"],
    "SE": ["50000000058398257466", "80000810340009783242"],
    "AT": ["1904300234573201", "3200000012345864"],
    "IE": ["AIBK93115212345678", "BOFI90001710027952"],
    "PT": ["000201231234567890154", "003506517493648291043"],
}
WIDE = {number: number + 0xFEE0 for number in range(0x21, 0x7F)}
PLACE = re.compile(r"\{([A-Z]+\d*)([a-z.\-_])\}")


def _grouped(digits: str, kind: str, between: str) -> str:
    sizes = {"A15": (4, 6, 5), "D14": (4, 6, 4)}.get(kind, (4, 4, 4, 4))
    places = list(itertools.accumulate(sizes, initial=0))
    return between.join(digits[a:b] for a, b in itertools.pairwise(places))


def _card(kind: str, form: str, digits: str) -> str:
    forms = {
        "s": lambda: _grouped(digits, kind, " "),
        "-": lambda: _grouped(digits, kind, "-"),
        ".": lambda: _grouped(digits, kind, "."),
        "_": lambda: _grouped(digits, kind, "\N{NO-BREAK SPACE}"),
        "z": lambda: _grouped(digits, kind, "\N{ZERO WIDTH SPACE}"),
        "f": lambda: _grouped(digits, kind, "-").translate(WIDE),
        "n": lambda: digits,
        "p": lambda: f"⟦{_grouped(digits, kind, '  ')}⟧ two spaces",
        "q": lambda: f"⟦{_grouped(digits, kind, '+')}⟧&cvc=1",
    }
    return forms[form]()


def _iban(country: str, form: str, account: str) -> str:
    turned = account + country + "00"
    check = 98 - int("".join(str(int(letter, 36)) for letter in turned)) % 97
    number = f"{country}{check:02d}{account}"
    fours = [number[at : at + 4] for at in range(0, len(number), 4)]
    return {
        "n": number,
        "s": " ".join(fours),
        "-": "-".join(fours),
        ".": ".".join(fours),
        "l": number.lower(),
        "x": "\N{NO-BREAK SPACE}".join(fours),
        "f": number.translate(WIDE),
    }[form]


def _numbers(line: str) -> Iterator[str]:
    """A line about a card or an account, with each number that it may hold."""
    match = PLACE.search(line)
    if match is None:
        yield line
        return
    kind, form = match.groups()
    known = CARDS.get(kind) or IBANS[kind]
    for digits in known:
        number = (
            _card(kind, form, _luhn_check(digits)) if kind in CARDS else _iban(kind, form, digits)
        )
        yield line[: match.start()] + number + line[match.end() :]


def _readings(line: str) -> Iterator[str]:
    parts = re.split(r"\{((?:[^{}|]|\{at\})*(?:\|(?:[^{}|]|\{at\})*)+)\}", line)
    choices = [part.split("|") if at % 2 else [part] for at, part in enumerate(parts)]
    for chosen in itertools.product(*choices):
        yield "".join(chosen)


def _case(kind: str, line: str) -> Case:
    text, values, start = "", [], 0
    for piece in re.split("([⟦⟧])", line):
        if piece == "⟦":
            start = len(text)
        elif piece == "⟧":
            values.append((start, len(text)))
        else:
            text += piece
    return Case(kind, text, tuple(values))


def positive(kind: str) -> list[Case]:
    """Each line of a kind in each of its readings; a value's line may follow its label's."""
    lines: list[str] = []
    for line in POSITIVE[kind].strip("\n").split("\n"):
        if lines and lines[-1] == "Phone number":
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    several = _numbers if kind in ("card", "iban") else _readings
    return [_case(kind, one) for line in lines for one in several(line)] + unseen(kind)


def negative() -> list[Case]:
    """What is nobody's."""
    lines = NEGATIVE.strip("\n").split("\n")
    return [Case("", one, ()) for line in lines for one in _readings(line)] + unseen("negative")


def unseen(kind: str) -> list[Case]:
    """The part of a kind that was written without reading the recognisers."""
    _, _, part = UNSEEN.partition(f"# {kind.upper()}\n")
    lines = part.partition("\n# ")[0].strip("\n").split("\n")
    return [_case("" if kind == "negative" else kind, line) for line in lines]
