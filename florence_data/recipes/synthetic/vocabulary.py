"""The words that pages are made of."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase for line in text.strip().splitlines() for phrase in line.split("|"))


FIRST_NAMES = _words("""
Ada Alan Albert Alice Amara Amos Anita Anna Anton Arthur Astrid Beatrice Bela Boris Bruno Calvin
Carla Carlos Cecil Celia Chen Clara Conrad Cora Cyrus Dana Daniel Daphne Dario David Della Dmitri
Dora Edgar Edith Elena Elias Elmer Elsa Emil Emma Erik Esther Eva Felix Fiona Flora Frank Frieda
George Gita Gloria Grace Greta Gustav Hana Harold Hazel Helen Henry Hilda Hugo Ida Igor Ines Irene
Iris Isaac Ivan Jack James Jane Jasper Jean Joan John Jonas Joseph Judith Julia Kamal Karen Karl
Kira Klaus Laura Lena Leo Leon Lewis Liam Lila Linda Louis Lucia Luther Lydia Mabel Marco Maria
Marta Martin Max May Mei Mina Mira Mona Morris Nadia Nathan Nils Nina Noel Nora Olga Omar Oscar
Otto Owen Pablo Paula Pearl Peter Petra Philip Priya Quentin Rafael Ralph Ramona Raj Rita Robert
Rosa Ruth Samir Sara Sidney Silas Simon Sofia Stella Sven Tara Tessa Theo Thomas Tobias Ursula
Valerie Vera Victor Viola Walter Wanda Wilma Xenia Yara Yusuf Zelda Zora
""")

# A family, a town or a firm has a name made of one of each.
HEADS = _words("""
Al Ash Bar Bel Ben Bex Brad Bran Bur Cal Car Cor Crom Dal Dan Del Don Dor Dun Ed El Ever Fair Fen
Fer Gar Gil Glen Gran Hal Ham Har Haw Hen Hol Hub Jar Kel Ken Kes Kil Lam Lan Lin Lock Mar Mel Mil
Mor Nel Nor Oak Ol Pal Par Pen Per Quin Ral Ran Red Ros Row San Sel Shel Stan Stock Sut Tal Ter
Thorn Tor Tun Ul Val Ver Wal War Wen Wes Whit Wil Win Wood Yar York
""")
TAILS = _words("""
ber bert bin born bury by den der dale dan dell don ford gate ham hart ing kamp ken ker kin land
ler ley low man mer mond more nell ner ning sen shaw sley smith son ston stead ter ton vale vick
ville wall well wick win wood worth
""")

INDUSTRIES = _words("""
Airways Automation Bakery Breweries Ceramics Chemicals Construction Dairy Electric Electronics
Engineering Express Fabrics Foods Forestry Foundry Freight Furniture Glass Hardware Instruments
Insurance Laboratories Lighting Logistics Machinery Marine Medical Metals Mills Mining Motors
Nursery Optics Packaging Paper Pharma Plastics Plumbing Press Printing Pumps Railway Research
Robotics Seeds Shipping Software Steel Supply Systems Textiles Timber Tobacco Tools Toys Trading
Travel
""")
COMPANY_ENDS = ("Ltd.", "Inc.", "Co.", "Corp.", "Group", "LLC", "& Sons", "Partners", "GmbH", "")

STREET_KINDS = ("Street", "St.", "Avenue", "Ave.", "Road", "Rd.", "Lane", "Drive", "Blvd.", "Way")
STATES = _words("""
AL AK AZ CA CO CT FL GA IA ID IL IN KS KY LA MA MD ME MI MN MO MS NC NE NJ NM NV NY OH OK OR PA RI
SC TN TX UT VA VT WA WI WV
""")

MATERIALS = _words("""
Adjustable Alloy Aluminium Anodized Braided Brass Bronze Ceramic Chrome Coated Compact Copper
Cordless Digital Double Dual Electric Enamel Fibre Flat Flexible Folding Galvanized Glass Graphite
Heavy Hex Hydraulic Insulated Light Magnetic Manual Micro Nylon Oak Plastic Polished Portable
Precision Rubber Safety Sealed Silicone Slim Spare Steel Thermal Threaded Titanium Twin Universal
Vinyl Wireless Wooden Zinc
""")
GOODS = _words("""
adapter anchor apron axle bearing belt bolt bracket brush bucket bulb cabinet cable caliper cap
cartridge case chain chair clamp clip connector coupling cover crate desk dial drill fan fastener
filter flange folder funnel fuse gasket gauge glove grinder handle helmet hinge hook hose hub jack
key kettle ladder lamp lens lever lock magnet mask mirror motor mount nail needle nozzle nut
padlock pallet panel pen pipe plate pliers plug pump rack relay ring rivet rod roller ruler saw
screw seal sensor shelf shovel sleeve socket spring stapler stool strap switch tape timer toolbox
torch tray tube valve vise washer wheel wire wrench
""")
SIZES = ("5 mm", "8 mm", "12 mm", "40 mm", "2 m", "10 m", "1/2 in", "3/4 in", "XL", "Mk II")

TITLES = _phrases("""
Accountant|Area Manager|Chief Chemist|Chief Engineer|Claims Adjuster|Clerk|Comptroller|Curator
Director of Research|Director of Sales|Editor|Executive Secretary|Field Inspector|General Counsel
Head of Procurement|Laboratory Manager|Librarian|Marketing Director|Operations Manager
Plant Manager|Principal|Product Manager|Project Leader|Quality Officer|Registrar|Regional Director
Safety Officer|Senior Analyst|Staff Scientist|Station Master|Treasurer|Vice President
Warehouse Supervisor
""")

DEPARTMENTS = _phrases("""
Accounting|Administration|Agronomy|Assembly|Audit|Biology|Brand Management|Chemistry|Compliance
Customer Service|Design|Dispatch|Engineering|Facilities|Finance|Human Resources
Information Systems|Legal Affairs|Maintenance|Marketing|Medical Affairs|Nutrition|Packaging
Payroll|Physics|Procurement|Production|Public Relations|Quality Control|Records|Research|Safety
Sales|Shipping|Statistics|Surveying|Toxicology|Training|Treasury|Warehouse
""")

TOPIC_KINDS = _phrases("""
analysis|annual review|audit|budget|calibration|campaign|conference|contract|delivery|evaluation
exhibition|forecast|inspection|inventory|maintenance plan|meeting|pilot study|price list|proposal
renewal|repair|sampling plan|schedule|seminar|shipment|survey|test programme|training course|trial
""")
TOPIC_THINGS = _phrases("""
air quality|blending|boiler|bridge|cold storage|consumer panel|corn seed|crop|dairy herd|drainage
export|fertilizer|field trial|filter paper|fleet|flavour|forest road|grain|greenhouse|harbour
heating|irrigation|laboratory|leaf sample|library|lighting|museum|nutrition|office|orchard
packaging|paper mill|patent|payroll|pump station|rail yard|reservoir|safety|salary|school|sugar
telephone|textile|timber|vaccine|vehicle|vitamin|warehouse|water supply|weather station|workshop
""")

MONTHS = _words("""
January February March April May June July August September October November December
""")
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")
