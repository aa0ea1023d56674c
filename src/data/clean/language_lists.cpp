#include "data/clean/language_lists.h"

namespace ondol::clean {

const LanguageList kLanguageLists[] = {
    {"en", Script::latin,
     "the of and to in a is that it for was on are as with he be at by i this had not but from or have an they which "
     "you were her she his all we there been their has will would can if who more when what your its so about into no "
     "than them my our do could out up these some after other only also t s",
     "é"},
    {"de", Script::latin,
     "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat "
     "dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis "
     "mehr durch man ich wir ihr sein kann wurde sind seine unter wenn",
     "äöüß"},
    {"fr", Script::latin,
     "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son ou comme "
     "aux d l n s qu c j mais cette elle ont été nous vous je tout on sa ses être fait leur même deux aussi peut sans "
     "bien ils entre était ces si",
     "àâæçéèêëîïôœùûüÿ"},
    {"es", Script::latin,
     "de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o este sí porque esta "
     "entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante todos uno les ni contra otros "
     "fue ser es son era han está había años",
     "áéíñóúü"},
    {"it", Script::latin,
     "di e il la che in un a per è una sono con non si da del le i della dei al come alla nel più ha gli anche lo ma "
     "delle o se su questo l d dell all nella suo era dal essere stato ai ed loro sua tra degli hanno molto quando "
     "questa cui fu dopo prima c",
     "àèéìîòù"},
    {"pt", Script::latin,
     "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua ou "
     "ser quando muito há nos já está eu também só pelo pela até isso ela entre era depois sem mesmo aos ter seus quem "
     "nas me esse eles são você",
     "áâãàçéêíóôõú"},
    {"nl", Script::latin,
     "de van het een en in is dat op te zijn met voor niet aan er die om ook als maar dan bij nog uit door naar heeft "
     "hij ze wordt of tot je worden deze over zich werd hebben was kan wel geen ik meer zo dit we al had haar hun "
     "moet veel wat",
     "éëïóöü"},
    {"sv", Script::latin,
     "och i att det som en på är av för med den till har de inte om ett han men var jag sig från vi så kan när år "
     "under också efter eller nu sin där vid mot ska skulle kommer ut får finns vara hade alla andra mycket här då "
     "sedan över bara in blir upp",
     "åäöé"},
    {"da", Script::latin,
     "og i at det er en til af på de den for med ikke der som et har var han fra om jeg men sig kan vi så også blev "
     "eller da efter have hun ved være nu kun alle over skal blive hvor meget når op ud bliver havde mod end skulle "
     "hvad dette hendes hans mig",
     "æøåé"},
    {"no", Script::latin,
     "og i det som er på en til å av for at med de ikke har den var han et om fra men jeg seg kan vi så også ble eller "
     "etter hun være nå bare alle over skal bli hvor mye når opp ut blir hadde mot enn skulle hva dette hennes hans "
     "meg sin noe",
     "æøåé"},
    {"fi", Script::latin,
     "ja on ei se että oli hän ovat myös kun mutta joka niin kuin hänen ole tai vain sen olisi voi jos siitä ollut "
     "sitä minä mitä jo nyt mukaan kanssa jonka jotka kaikki vielä sitten ennen jälkeen he tämä tämän oma hyvin mikä "
     "eli sekä ettei",
     "äöå"},
    {"pl", Script::latin,
     "i w na z do się nie to że jest o jak od po za a przez ale co dla są tym oraz być może ma które który jego już "
     "tylko czy było tak też był ze jej przy ich lub ten tego bardzo tej gdy jako która jednak po będzie pod mnie",
     "ąćęłńóśźż"},
    {"cs", Script::latin,
     "a v na je se že s z do o to i k jako ve za by který které po pro jsou ale si jeho podle která není bylo byl od "
     "jen už tak jsem při jsme co nebo však také až být byla pouze má mezi před své další kde ze tím",
     "áčďéěíňóřšťúůýž"},
    {"tr", Script::latin,
     "ve bir bu için de da ile olarak çok daha olan gibi en kadar o ne sonra var ama ki olduğu değil her ya şey mi mı "
     "diye ise ben sen biz onu ona bunu tarafından oldu göre içinde önce büyük iki yeni veya hem olduğunu",
     "çğıöşüâ"},
    {"vi", Script::latin,
     "và của là có trong được cho một các không với những người đã này để khi ở từ đến cũng như về ra năm thì nhiều "
     "lại tôi sẽ vào phải làm trên theo nhưng tại sau đó còn bị ông hơn mà nhất hai rất đi hoặc cùng",
     "ăâđêôơưàáảãạằắẳẵặầấẩẫậèéẻẽẹềếểễệìíỉĩịòóỏõọồốổỗộờớởỡợùúủũụừứửữựỳýỷỹỵ"},
    {"id", Script::latin,
     "yang dan di dengan untuk pada ini dari dalam itu tidak adalah ke akan oleh juga sebagai saya ada karena mereka "
     "bisa atau telah dapat lebih kami kita sudah anda tahun orang banyak hanya seperti tersebut bahwa secara menjadi "
     "saat ia hari belum namun satu",
     ""},
    {"ro", Script::latin,
     "de și în a la cu pe o care nu din este un că pentru mai au sunt se fost ca sau lui al ale dar cel această după "
     "prin fi când între foarte ei lor până acest avea doar său sa fără toate era am cum dacă spre",
     "ăâîșțşţ"},
    {"hu", Script::latin,
     "a az és hogy nem is egy ez volt meg de ha csak már mint van még el vagy azt ezt kell majd után lehet minden "
     "amely "
     "nagyon mert olyan így fel ki ő én magyar között során szerint pedig nincs több ami voltak aki lesz",
     "áéíóöőúüű"},
    {"ru", Script::cyrillic,
     "и в не на я что он с как это по но они мы она так его за был от из у к о же а то все для вы бы только ее было "
     "мне "
     "еще если или их уже когда этого до при во чтобы ни быть есть была может были том том также после",
     "ыэёъ"},
    {"uk", Script::cyrillic,
     "і в у не на що з та до він як за це від по його про але для є й із вона вони було так які був або чи також ми ви "
     "був була були після який яка її їх ще при тому бути може коли",
     "іїєґ"},
    {"bg", Script::cyrillic,
     "и на в да се за от е не с по са че като си до ще при това или след само му има който което които най през те той "
     "тя беше бе към между още може ли ни ако бъде обаче този тази със във",
     "ъ"},
    {"sr", Script::cyrillic,
     "и је у да на се су за од са не као што о који које која из су био била било али то до по ће или све само након "
     "због када више године овај ова ово његов сам бити код може",
     "ђјљњћџ"},
    {"ar", Script::arabic,
     "في من على إلى أن عن التي الذي هذا هذه ما لا مع كان كل بين بعد ذلك أو و لم قد هو هي كما حيث منذ عند غير حتى إن ثم "
     "أي كانت يكون تم خلال قبل هناك لها له به بها أكثر وقد ولا أما لكن وفي وهو ومن",
     "ةىأإؤئيك"},
    {"fa", Script::arabic,
     "و در به از که این را با است برای آن یک خود تا کرد بر هم نیز گفت می شد شود کند ها های اما باید بود دارد یا ما او "
     "من شده بین هر دو اگر پس نمی بی همه چه دیگر کنید شما",
     "پچژگیک"},
    {"ur", Script::arabic,
     "کے کی میں ہے اور سے کا کو کہ نے پر اس یہ ہیں ایک بھی تھا نہیں وہ جو ہو کر گیا ان لیے تو ہی تھے تک کیا رہے گی "
     "ہوئے "
     "اپنے ساتھ بعد کچھ جس تھی گئے",
     "ٹڈڑےںھہگچپیک"},
    {"hi", Script::devanagari,
     "है के में की और से का को पर यह था ने हैं भी एक नहीं कि लिए इस हो कर वह गया तो ही जो या थे थी अपने साथ कुछ जा रहा "
     "बाद करने दिया तक होता रहे हुए उस मैं हम आप सकते",
     ""},
    {"mr", Script::devanagari,
     "आहे आणि या व ते हे तर की नाही हा ही मध्ये होते आहेत त्या त्यांनी एक होता केली म्हणून झाली असे काही मी पण केला तो "
     "आपल्या करून होती साठी त्याच्या त्यांच्या वर किंवा असून येथे झाले",
     "ळ"},
    {"ne", Script::devanagari,
     "छ र को मा पनि हो छन् गरेको भने यो एक थियो लागि का ले गर्न भएको गर्ने तर त्यो उनले हुन हुने बताए रहेको गरी नै तथा "
     "हुन्छ भन्ने पछि म सबै कुनै थिए गरे",
     ""},
};
const size_t kNumLanguageLists = sizeof kLanguageLists / sizeof kLanguageLists[0];

}  // namespace ondol::clean
