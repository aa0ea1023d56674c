// Article 1 of the Universal Declaration of Human Rights, and corpora whose language is known.
#include <ondol/data/language.h>

#include <fstream>
#include <map>

#include <gtest/gtest.h>

#include "support/test_data.h"

namespace ondol {
namespace {

TEST(Language, FirstArticleOfTheDeclarationOfHumanRights) {
  const std::map<std::string, std::string> articles = {
      {"en",
       "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
       "conscience and should act towards one another in a spirit of brotherhood."},
      {"de",
       "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
       "und sollen einander im Geist der Brüderlichkeit begegnen."},
      {"fr",
       "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
       "conscience et doivent agir les uns envers les autres dans un esprit de fraternité."},
      {"es",
       "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
       "conciencia, deben comportarse fraternalmente los unos con los otros."},
      {"it",
       "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di "
       "coscienza e devono agire gli uni verso gli altri in spirito di fratellanza."},
      {"pt",
       "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de "
       "consciência, devem agir uns para com os outros em espírito de fraternidade."},
      {"nl",
       "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en "
       "geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen."},
      {"sv",
       "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete och "
       "bör handla gentemot varandra i en anda av broderskap."},
      {"pl",
       "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
       "sumieniem i powinni postępować wobec innych w duchu braterstwa."},
      {"tr",
       "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
       "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler."},
      {"vi",
       "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. Mọi con người đều được tạo "
       "hóa ban cho lý trí và lương tâm và cần phải đối xử với nhau trong tình bằng hữu."},
      {"ru",
       "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
       "должны поступать в отношении друг друга в духе братства."},
      {"uk",
       "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і совістю і "
       "повинні діяти у відношенні один до одного в дусі братерства."},
      {"ar",
       "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل بعضهم بعضاً "
       "بروح الإخاء."},
      {"fa",
       "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند. همه دارای عقل و وجدان هستند و "
       "باید "
       "نسبت به یکدیگر با روح برادری رفتار کنند."},
      {"hi",
       "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन "
       "प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।"},
      {"ko",
       "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 "
       "부여받았으며 서로 형제애의 정신으로 행동하여야 한다."},
      {"ja",
       "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを"
       "授けられており、互いに同胞の精神をもって行動しなければならない。"},
      {"zh", "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"},
      {"el", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."},
      {"he", "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון."},
      {"th", "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"}};
  const std::vector<std::string> known = known_languages();
  for (const auto& [code, text] : articles) {
    const LanguageGuess guess = identify_language(text);
    EXPECT_EQ(guess.code, code) << guess.score;
    EXPECT_GE(guess.score, 0.65) << code;
    EXPECT_LE(guess.score, 1) << code;
    EXPECT_NE(std::find(known.begin(), known.end(), code), known.end()) << code;
  }
}

TEST(Language, WhatIsNoRunningTextIsUndetermined) {
  for (const char* text : {"", "12345 67.8 -- !!", "\xff\xfe\x80", "xqj zzkp wvrt qlmn bxcz ptkq"}) {
    EXPECT_EQ(identify_language(text).code, "und") << text;
  }
  // Latin that is none of the lists: Latin itself, and code.
  const LanguageGuess latin = identify_language(
      "Gallia est omnis divisa partes tres quarum unam incolunt Belgae aliam Aquitani tertiam qui ipsorum lingua "
      "Celtae "
      "nostra Galli appellantur");
  EXPECT_TRUE(latin.code == "und" || latin.score < 0.65) << latin.code << latin.score;
  // Half of it each: neither reaches the usual limit.
  const LanguageGuess mixed =
      identify_language("모든 인간은 자유롭다고 한다 and all of them are born to be free in it");
  EXPECT_LT(mixed.score, 0.75);
}

struct Corpus {
  const char* file;
  const char* code;
  double least;  // share of lines of 20 bytes and more that must be recognised
};

TEST(Language, LinesOfCorpora) {
  const Corpus corpora[] = {
      {"corpora/nsmc_reviews_ko.txt", "ko", 0.99},   {"corpora/ud_korean_gsd_dev.txt", "ko", 0.99},
      {"corpora/wagahai_ja.txt", "ja", 0.99},        {"corpora/botchan_en.txt", "en", 0.97},
      {"corpora/wiki_en_articles.txt", "en", 1.0},   {"corpora/c4_demo.jsonl", "en", 0.97},
      {"corpora/german_de.txt", "de", 1.0},          {"tasks/translation_ko_en/dev.ko", "ko", 0.97},
      {"tasks/translation_ko_en/dev.en", "en", 0.98}};
  for (const Corpus& corpus : corpora) ONDOL_REQUIRE_DATA(corpus.file);
  for (const Corpus& corpus : corpora) {
    std::ifstream in(test::data_path(corpus.file));
    int lines = 0, right = 0;
    for (std::string line; std::getline(in, line);) {
      if (line.size() < 20) continue;
      ++lines;
      right += identify_language(line).code == corpus.code;
    }
    EXPECT_GE(right, corpus.least * lines) << corpus.file;
    EXPECT_GT(lines, 0) << corpus.file;
  }
}

}  // namespace
}  // namespace ondol
